//! A line now and then for whoever looks at the terminal.

use std::time::Duration;

use sheaf_kafka::{Figures, Gateway};
use sheaf_retry::{HumanBytes, SharedClock};
use sheaf_terminal::{count, rate};

const EVERY: Duration = Duration::from_secs(5);

/// Says how far the gateway is, as long as it gets further. Never ends.
pub(super) async fn show(gateway: &Gateway, clock: &SharedClock) -> std::convert::Infallible {
    let mut before = Figures::default();
    loop {
        clock.sleep(EVERY).await;
        let now = gateway.figures();
        if now.messages != before.messages {
            tracing::info!("{}", line(&before, &now));
        }
        before = now;
    }
}

fn line(before: &Figures, now: &Figures) -> String {
    let speed = rate(now.messages - before.messages, EVERY);
    let dead = match now.dead_letters {
        0 => String::new(),
        dead => format!(", {} of them dead letters", count(dead)),
    };
    format!(
        "{} messages read ({speed}){dead}; {} in Kafka to come; {} in memory",
        count(now.messages),
        count(now.lag),
        HumanBytes(now.memory_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let before = Figures { messages: 1_000, ..Figures::default() };
        let now = Figures { messages: 501_000, dead_letters: 3, memory_bytes: 64_000_000, lag: 7 };
        assert_eq!(
            line(&before, &now),
            "501,000 messages read (100,000/s), 3 of them dead letters; 7 in Kafka to come; 64 MB \
             in memory"
        );
    }
}
