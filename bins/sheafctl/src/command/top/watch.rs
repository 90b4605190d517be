//! The screen that goes on until a key ends it.

use std::io::IsTerminal as _;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use sheaf_console::figures::Rows;
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::Failure;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::view::View;
use super::{Args, keys, screen};
use crate::command::client::Client;

/// How long a key may wait for the next picture.
const PICTURE: Duration = Duration::from_millis(100);

/// What the last reading came to; `None` before the first one.
type News = watch::Receiver<Option<Result<Rows, Failure>>>;

pub(super) fn run(args: &Args, client: Client, runtime: &Runtime) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let failure = Failure::new(Code::FailedPrecondition, "there is no terminal to draw on");
        return Err(failure.help("use --once"));
    }
    let pipeline = args.pipeline.clone();
    // What is wrong from the beginning is told without a screen.
    let first = runtime.block_on(super::read(&client, pipeline.as_deref()))?;
    let (sender, mut news) = watch::channel(Some(Ok(Rows::of(None, &first))));
    let interval = args.interval();
    news.mark_changed();
    let title = match &pipeline {
        Some(name) => format!("sheafctl top  {name} at {}", args.at.server),
        None => format!("sheafctl top  {}", args.at.server),
    };
    runtime.spawn(async move {
        let mut before = first;
        while !sender.is_closed() {
            client.sleep(interval).await;
            let now = super::read(&client, pipeline.as_deref()).await;
            let rows = now.map(|now| {
                let rows = Rows::of(Some(&before), &now);
                before = now;
                rows
            });
            sender.send_replace(Some(rows));
        }
    });
    let view = View { title, sort: args.sort, ..View::default() };
    let failed = |error: &std::io::Error| {
        Failure::new(error.code(), "the terminal cannot be used").because(error)
    };
    let mut terminal = ratatui::try_init().map_err(|error| failed(&error))?;
    let shown = show(&mut terminal, view, news);
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(|error| failed(&error))
}

fn show(terminal: &mut DefaultTerminal, mut view: View, mut news: News) -> std::io::Result<()> {
    loop {
        if news.has_changed().unwrap_or(false) {
            match news.borrow_and_update().clone() {
                Some(Ok(rows)) => view.show(rows),
                // What was seen last stays.
                Some(Err(failure)) => view.problem = Some(failure.to_string()),
                None => {}
            }
        }
        terminal.draw(|frame| screen::draw(frame, &view))?;
        if event::poll(PICTURE)?
            && let Event::Key(key) = event::read()?
            && !keys::press(&mut view, key)
        {
            return Ok(());
        }
    }
}
