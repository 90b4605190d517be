//! One value that is read, written, and swapped if it is what was expected.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use super::Model;

/// A register; of a key that may be missing, `V` is an `Option`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register<V>(PhantomData<V>);

/// What is asked of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp<V> {
    /// For its value.
    Read,
    /// To take this value.
    Write(V),
    /// To take `new` if its value is `expected`.
    Cas {
        /// What it should be.
        expected: V,
        /// What it becomes then.
        new: V,
    },
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterRet<V> {
    /// To a read: the value.
    Value(V),
    /// To a write.
    Done,
    /// To a swap: whether it was what was expected, and so took place.
    Swapped(bool),
}

impl<V: Clone + Debug + Eq + Hash> Model for Register<V> {
    type Op = RegisterOp<V>;
    type Ret = RegisterRet<V>;
    type State = V;

    fn step(state: &V, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<V> {
        let (after, answer) = match op {
            RegisterOp::Read => (state, RegisterRet::Value(state.clone())),
            RegisterOp::Write(value) => (value, RegisterRet::Done),
            RegisterOp::Cas { expected, new } if state == expected => {
                (new, RegisterRet::Swapped(true))
            }
            RegisterOp::Cas { .. } => (state, RegisterRet::Swapped(false)),
        };
        ret.is_none_or(|ret| *ret == answer).then(|| after.clone())
    }
}
