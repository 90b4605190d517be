//! Files that are damaged at random: an answer every time, and one that can be
//! shown. A failure prints what it was about.

use sheaf_pipeline::check::check;
use sheaf_pipeline::diagnostics::{Report, Style};
use sheaf_pipeline::graph::{Format, draw};
use sheaf_pipeline::plan::Plan;

use crate::examples::examples;

/// What is put into a file: syntax of YAML, words of ours, and what is hard to show.
const PIECES: [&str; 34] = [
    "\n",
    "  ",
    "\t",
    ":",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "<<: *a\n",
    "|\n",
    ">",
    "---\n",
    "~",
    "!!str ",
    "é",
    "漢字",
    "\u{200d}👩",
    "\r\n",
    "\u{feff}",
    "\u{7f}",
    "0x",
    "-1",
    "1e999",
    "inputs",
    "where: a >",
    "password: x",
    "{hash: [a]}",
    "? ",
];

/// Numbers that look random, the same ones in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(self.0 % limit).unwrap_or_default()
    }

    /// A place between two characters.
    fn place(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn damage(&mut self, text: &mut String) {
        let (from, to) = (self.place(text), self.place(text));
        match self.below(4) {
            0 => text.insert_str(from, PIECES[self.below(PIECES.len())]),
            1 => {
                let end = (from..=text.len()).skip(1 + self.below(12));
                let end = end.into_iter().find(|end| text.is_char_boundary(*end));
                text.replace_range(from..end.unwrap_or(from), "");
            }
            2 => {
                let copied = text[from.min(to)..from.max(to)].chars().take(200).collect::<String>();
                text.insert_str(to, &copied);
            }
            _ => {
                let line = text[..from].rfind('\n').map_or(0, |at| at + 1);
                text.insert_str(line, &" ".repeat(self.below(5)));
            }
        }
    }
}

/// Everything that is done with an answer; how many problems it has.
fn used(text: &str) -> usize {
    let shown = |report: &Report| {
        assert!(report.is_empty() || !report.render(Style::default()).is_empty());
        assert!(!report.render(Style { colour: true, width: 1 }).contains('\0'));
        let json = report.to_json();
        for one in json["diagnostics"].as_array().into_iter().flatten() {
            assert!(one["line"].as_u64() > Some(0) && one["column"].as_u64() > Some(0), "{one}");
        }
        for one in report.diagnostics() {
            assert!(one.span.start <= one.span.end && one.span.end <= text.len(), "{one:?}");
            assert!(text.is_char_boundary(one.span.start), "{one:?}");
        }
        report.diagnostics().len()
    };
    match check("damaged.yaml", text) {
        Err(report) => shown(&report),
        Ok(checked) => {
            let plan = Plan::new(&checked.pipeline);
            Format::ALL.into_iter().for_each(|format| assert!(!draw(&plan, format).is_empty()));
            assert!(plan.diff(&plan).is_empty());
            shown(&checked.warnings)
        }
    }
}

#[test]
fn damaged_files_get_an_answer_that_can_be_shown() {
    let mut random = Random(0x5eed);
    let (mut good, mut problems) = (0, 0);
    for round in 0..150 {
        for (name, text) in examples() {
            let mut damaged = text.clone();
            (0..1 + random.below(4)).for_each(|_| random.damage(&mut damaged));
            let result = std::panic::catch_unwind(|| used(&damaged));
            let found = result.unwrap_or_else(|_| panic!("round {round}, {name}:\n{damaged}"));
            problems += found;
            good += usize::from(found == 0);
        }
    }
    // Neither all of them broken, nor all of them fine.
    assert!(good > 20 && problems > 200, "{good} {problems}");
}
