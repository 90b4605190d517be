//! Reads settings one by one and gathers what is wrong.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use sheaf_retry::HumanDuration;
use sheaf_terminal::HumanBytes;

use super::machine::Machine;
use super::problem::Problem;
use super::raw::{Origin, RawConfig};

/// A value that was refused is read as `None`; its problem is kept here.
pub(super) struct Reader<'a> {
    raw: &'a RawConfig,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: &'a RawConfig) -> Self {
        Reader { raw, problems: raw.problems.clone() }
    }

    pub(super) fn text(&self, name: &str) -> &'a str {
        self.raw.text(name)
    }

    pub(super) fn place(&self, name: &str) -> String {
        self.raw.place(name)
    }

    pub(super) fn origin(&self, name: &str) -> Origin {
        self.raw.origin(name)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }

    pub(super) fn wrong(&mut self, name: &str, message: String) {
        let place = self.place(name);
        self.problems.push(Problem { place, message });
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.text(name).parse() {
            Ok(value) => Some(value),
            Err(problem) => {
                self.wrong(name, T::Err::to_string(&problem));
                None
            }
        }
    }

    pub(super) fn switch(&mut self, name: &str) -> Option<bool> {
        match self.text(name) {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            other => {
                self.wrong(name, format!("{other:?} is neither true nor false"));
                None
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        name: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let HumanDuration(value) = self.parse(name)?;
        if !range.contains(&value) {
            let (low, high) = (HumanDuration(*range.start()), HumanDuration(*range.end()));
            let given = HumanDuration(value);
            self.wrong(name, format!("{given} is out of range: allowed are {low} to {high}"));
            return None;
        }
        Some(value)
    }

    /// As [`Reader::duration`]; what is left empty is `default`.
    pub(super) fn duration_or(
        &mut self,
        name: &str,
        default: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        if self.text(name).is_empty() {
            return default.parse().ok().map(|HumanDuration(value)| value);
        }
        self.duration(name, range)
    }

    pub(super) fn number(&mut self, name: &str, limit: u32) -> Option<u32> {
        match self.text(name).parse::<u64>() {
            Ok(value) => match u32::try_from(value) {
                Ok(number) if number <= limit => Some(number),
                _ => {
                    self.wrong(name, format!("{value} is over the limit of {limit}"));
                    None
                }
            },
            Err(_) => {
                let text = self.text(name);
                self.wrong(name, format!("{text:?} is no number from 0 to {limit}"));
                None
            }
        }
    }

    /// A size, or a share of the machine's memory.
    pub(super) fn memory(&mut self, name: &str, least: u64, machine: &Machine) -> Option<u64> {
        let text = self.text(name);
        let bytes = match text.strip_suffix('%').map(str::parse::<u8>) {
            Some(Ok(share @ 1..=100)) => {
                let bytes = u128::from(machine.memory_bytes()) * u128::from(share) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Some(_) => {
                let message =
                    format!("{text:?} is no share of memory: write 1% to 100%, or a size");
                self.wrong(name, message);
                return None;
            }
            None => self.parse::<HumanBytes>(name)?.0,
        };
        if bytes < least {
            let (given, least) = (HumanBytes(bytes), HumanBytes(least));
            self.wrong(name, format!("{given} is too little: at least {least}"));
            return None;
        }
        Some(bytes)
    }
}
