//! The built-in processors, as pipelines use them.

mod expression;
mod naive;
mod rows;
mod support;
