//! What a token may do, namespace by namespace.

use std::collections::BTreeMap;
use std::fmt;

use crate::router::is_namespace;

/// Most namespaces that one token names.
const MAX_NAMESPACES: usize = 100;
/// Stands for every namespace.
const EVERY: &str = "*";
const FORM: &str = "after allow= stand NAMESPACE:RIGHTS separated by commas, such as \
                    batches:rw,coordinator:r; rights are r, w and x, * is every namespace";

/// One thing that a token may be allowed to do in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// `r`: DoGet, ListFlights, GetFlightInfo, GetSchema, PollFlightInfo, and
    /// calls and actions that change nothing.
    Read,
    /// `w`: DoPut and DoExchange.
    Write,
    /// `x`: calls and actions that change something.
    Change,
}

impl Right {
    const ALL: [Right; 3] = [Right::Read, Right::Write, Right::Change];

    /// As a token file has it.
    pub const fn letter(self) -> char {
        match self {
            Right::Read => 'r',
            Right::Write => 'w',
            Right::Change => 'x',
        }
    }

    /// Which calls it is for, for messages.
    pub(super) const fn calls(self) -> &'static str {
        match self {
            Right::Read => "reading",
            Right::Write => "DoPut and DoExchange",
            Right::Change => "changing something",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Right::Read => 1,
            Right::Write => 2,
            Right::Change => 4,
        }
    }
}

/// What a call needs from the token that it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any token will do.
    Nothing,
    /// A right in a namespace.
    One(&'static str, Right),
    /// Every right in every namespace: what nobody described may do anything.
    Everything,
}

/// Some of the rights of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights(u8);

impl Rights {
    const ALL: Rights = Rights(7);

    fn parse(text: &str) -> Option<Self> {
        let mut rights = Rights(0);
        for letter in text.chars() {
            let right = Right::ALL.into_iter().find(|right| right.letter() == letter)?;
            if rights.has(right) {
                return None;
            }
            rights.0 |= right.bit();
        }
        (rights.0 != 0).then_some(rights)
    }

    fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut there = Right::ALL.into_iter().filter(|right| self.has(*right));
        there.try_for_each(|right| write!(f, "{}", right.letter()))
    }
}

/// The rights of one token; by default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// By namespace, `*` among them; `None` where the token may do everything.
    named: Option<BTreeMap<String, Rights>>,
}

impl Allowed {
    /// Reads what stands after `allow=`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for part in text.split(',') {
            let (namespace, rights) = part.split_once(':').ok_or(FORM)?;
            if namespace != EVERY && !is_namespace(namespace) {
                return Err(format!("{FORM}; a namespace is 1 to 64 of [a-z0-9_-]"));
            }
            let rights = Rights::parse(rights).ok_or(FORM)?;
            if named.insert(namespace.to_owned(), rights).is_some() {
                return Err(format!("allow= names {namespace} twice: write its rights together"));
            }
        }
        if named.len() > MAX_NAMESPACES {
            return Err(format!("allow= names over {MAX_NAMESPACES} namespaces; use *"));
        }
        Ok(Allowed { named: Some(named) })
    }

    /// Whether it may do this there.
    pub(crate) fn has(&self, namespace: &str, right: Right) -> bool {
        let Some(named) = &self.named else { return true };
        let of = |name: &str| named.get(name).is_some_and(|rights| rights.has(right));
        // What is allowed everywhere is allowed here.
        of(EVERY) || (namespace != EVERY && of(namespace))
    }

    /// Whether it may do everything everywhere.
    pub(crate) fn has_all(&self) -> bool {
        Right::ALL.into_iter().all(|right| self.has(EVERY, right))
    }

    /// Namespaces named but for `*`.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let named = self.named.iter().flat_map(BTreeMap::keys);
        named.map(String::as_str).filter(|name| *name != EVERY)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(named) = &self.named else { return write!(f, "{EVERY}:{}", Rights::ALL) };
        for (index, (namespace, rights)) in named.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{namespace}:{rights}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_namespace_and_of_all() {
        let cases = [
            ("batches:r", "batches", "r"),
            ("batches:r", "topics", ""),
            ("batches:xw", "batches", "wx"),
            ("*:r", "batches", "r"),
            ("*:r,batches:w", "batches", "rw"),
            ("*:r,batches:w", "topics", "r"),
            ("*:rwx", "anything", "rwx"),
            ("batches:rwx", "*", ""),
        ];
        for (text, namespace, expected) in cases {
            let allowed = Allowed::parse(text).unwrap();
            let has = Right::ALL.into_iter().filter(|right| allowed.has(namespace, *right));
            let letters: String = has.map(Right::letter).collect();
            assert_eq!(letters, expected, "{text} in {namespace}");
            assert_eq!(allowed.has_all(), text == "*:rwx", "{text}");
        }
        assert!(Allowed::default().has_all());
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for (text, shown) in [("b:xr,a:w", "a:w,b:rx"), ("*:r,a:x", "*:r,a:x")] {
            let allowed = Allowed::parse(text).unwrap();
            assert_eq!(allowed.to_string(), shown);
            assert_eq!(Allowed::parse(shown), Ok(allowed));
        }
        assert_eq!(Allowed::default().to_string(), "*:rwx");
        let allowed = Allowed::parse("*:r,b:w,a:x").unwrap();
        assert_eq!(allowed.namespaces().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_list_of_rights_is_refused_with_the_form() {
        let mut wrong = vec!["", "batches", "batches:", ":r", "a:R", "a:rr", "a:q", "a:r,", ",a:r"];
        wrong.extend(["A:r", "a b:r", "*x:r", "a:r:w"]);
        for text in wrong {
            let problem = Allowed::parse(text).unwrap_err();
            assert!(problem.contains("such as batches:rw"), "{text}: {problem}");
        }
        assert!(Allowed::parse("a:r,b:w,a:x").unwrap_err().contains("names a twice"));
        let many: Vec<String> = (0..=MAX_NAMESPACES).map(|n| format!("n{n}:r")).collect();
        assert!(Allowed::parse(&many.join(",")).unwrap_err().contains("over 100"));
    }
}
