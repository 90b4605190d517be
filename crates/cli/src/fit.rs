//! Which columns of a table fit into a terminal, and how wide they are.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Below this width a table is written as one block of lines per row.
const NARROW: usize = 40;
/// What a cell of data is cut to while other columns need the room.
const CELL: usize = 32;
/// A cell's two spaces and the line after it.
const FRAME: usize = 3;

/// How wide a column is.
pub(crate) struct Shape {
    rank: u8,
    natural: usize,
    longest_word: usize,
}

impl Shape {
    /// Of a heading and its cells; a column of rank 0 is needed.
    pub(crate) fn of<'a>(rank: u8, texts: impl Iterator<Item = &'a String>) -> Self {
        texts.fold(Shape { rank, natural: 0, longest_word: 0 }, |shape, text| {
            let word = text.split(' ').map(|word| word.width()).max().unwrap_or(0);
            Shape {
                rank,
                natural: shape.natural.max(text.width()),
                longest_word: shape.longest_word.max(word),
            }
        })
    }
}

/// How a table is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In no terminal.
    Plain,
    /// These columns, each with its width; with `wrap` its least one.
    Columns { kept: Vec<(usize, usize)>, wrap: bool },
    /// One block of lines per row.
    Blocks,
}

pub(crate) fn fit(columns: &[Shape], width: usize, trimmed: bool) -> Fit {
    if width < NARROW {
        return Fit::Blocks;
    }
    if trimmed {
        return Fit::Columns { kept: leading(columns, width), wrap: false };
    }
    let room = width - 1;
    let mut used: usize = columns.iter().filter(|c| c.rank == 0).map(|c| c.natural + FRAME).sum();
    if used > room {
        return wrapped(columns, room);
    }
    let mut optional: Vec<usize> = (0..columns.len()).collect();
    optional.sort_by_key(|&index| columns[index].rank);
    optional.retain(|&index| {
        let Shape { rank, natural, .. } = columns[index];
        let more = if rank == 0 { 0 } else { natural + FRAME };
        let fits = used + more <= room;
        used += if fits { more } else { 0 };
        fits
    });
    optional.sort_unstable();
    let kept = optional.into_iter().map(|index| (index, columns[index].natural)).collect();
    Fit::Columns { kept, wrap: false }
}

/// The needed columns alone, wrapped, where that breaks no word.
fn wrapped(columns: &[Shape], room: usize) -> Fit {
    let needed = columns.iter().enumerate().filter(|(_, column)| column.rank == 0);
    let kept: Vec<_> = needed.map(|(index, column)| (index, column.longest_word)).collect();
    match kept.iter().map(|(_, word)| word + FRAME).sum::<usize>() <= room {
        true => Fit::Columns { kept, wrap: true },
        false => Fit::Blocks,
    }
}

/// As many columns from the left as there is room for, long ones cut; what
/// room is left over goes to those again.
fn leading(columns: &[Shape], width: usize) -> Vec<(usize, usize)> {
    let mut left = width - 1;
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let cell = column.natural.min(CELL);
        if cell + FRAME > left {
            break;
        }
        left -= cell + FRAME;
        kept.push((index, cell));
    }
    for (index, cell) in &mut kept {
        let more = (columns[*index].natural - *cell).min(left);
        *cell += more;
        left -= more;
    }
    kept
}

/// The text within so many places of a terminal, with `…` where some is cut.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= room
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_keeps_to_its_room() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("a bcd", 3), "a…");
        assert_eq!(cut("\u{4e2d}\u{4e2d}\u{4e2d}", 4), "\u{4e2d}…");
    }

    #[test]
    fn a_table_without_columns_fits() {
        assert_eq!(fit(&[], 80, true), Fit::Columns { kept: Vec::new(), wrap: false });
        assert_eq!(fit(&[], 80, false), Fit::Columns { kept: Vec::new(), wrap: false });
    }
}
