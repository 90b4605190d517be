//! The built-in processors, as pipelines use them.

mod aggregate;
mod expression;
mod naive;
mod rows;
mod support;
