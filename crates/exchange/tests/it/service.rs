//! `DataExchangeService` over real sockets, and its chunks without.

mod faults;
mod flight;
mod hostile;
mod readers;
mod refusals;
mod rights;
mod rows;
mod types;
mod world;
