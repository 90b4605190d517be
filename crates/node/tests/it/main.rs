//! Tests over what a whole server is made of.

mod fuzz;
mod mutate;
