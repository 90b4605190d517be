//! Messages of any consensus engine over Arrow Flight.
