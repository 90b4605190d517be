//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::view::View;

/// Rows of a page.
const PAGE: isize = 10;

/// Changes the view; `false` where the command is to end.
pub(super) fn press(view: &mut View, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        // A terminal in raw mode makes no signal of it.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('s') => view.sort_by(view.sort.next()),
        KeyCode::Tab => view.focus = (view.focus + 1) % 2,
        KeyCode::Up => view.scroll(-1),
        KeyCode::Down => view.scroll(1),
        KeyCode::PageUp => view.scroll(-PAGE),
        KeyCode::PageDown => view.scroll(PAGE),
        KeyCode::Home => view.scroll(isize::MIN),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use sheaf_console::figures::{ComponentRow, Rows};

    use super::super::view::Sort;
    use super::*;

    fn view() -> View {
        let of = |place: &str, restarts| ComponentRow {
            place: place.to_owned(),
            restarts,
            ..ComponentRow::default()
        };
        let mut view = View::default();
        let components = vec![of("b", 2), of("a", 1), of("c", 0)];
        view.show(Rows { components, edges: Vec::new() });
        view
    }

    fn first(view: &View) -> &str {
        &view.rows.components[view.offsets[0]].place
    }

    #[test]
    fn keys_sort_scroll_and_end() {
        let mut view = view();
        let press = |view: &mut View, code: KeyCode| press(view, code.into());
        assert_eq!(first(&view), "a");
        assert!(press(&mut view, KeyCode::Down) && first(&view) == "b");
        assert!(press(&mut view, KeyCode::PageDown) && first(&view) == "c");
        assert!(press(&mut view, KeyCode::Tab) && press(&mut view, KeyCode::Down));
        assert_eq!((view.offsets, first(&view)), ([2, 0], "c"));
        assert!(press(&mut view, KeyCode::Tab) && press(&mut view, KeyCode::Home));
        while view.sort != Sort::Restarts {
            assert!(press(&mut view, KeyCode::Char('s')));
        }
        assert_eq!(first(&view), "b");
        assert!(press(&mut view, KeyCode::Char('s')) && view.sort == Sort::Name);
        assert!(press(&mut view, KeyCode::Char('c')));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!super::press(&mut view, interrupt) && !press(&mut view, KeyCode::Char('q')));
    }
}
