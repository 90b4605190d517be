//! Nodes that do not belong.
