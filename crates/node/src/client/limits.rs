//! `sheaf queue configure` and `sheaf queue show`

use sheaf_coordinator::{Control, Coordinator as _, CoordinatorExt as _, QueuePolicy, RateLimit};
use sheaf_rpc::json::{ControlOutput, StatsOutput};
use sheaf_terminal::{Failure, HumanBytes, Table, count};

use super::queue::QueueArgs;
use super::server::Session;

/// New limits; those that are not named stay as they are.
#[derive(Clone, Debug, clap::Args)]
#[command(group(
    clap::ArgGroup::new("limits")
        .args(["max_leased", "max_leased_per_tenant", "rate", "burst", "max_live_bytes"])
        .required(true)
        .multiple(true)
))]
pub struct ConfigureArgs {
    /// The queue
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Most batches worked on at once; 0 is any number
    #[arg(long, value_name = "N")]
    pub max_leased: Option<u32>,
    /// Most batches of one tenant worked on at once; 0 is any number
    #[arg(long, value_name = "N")]
    pub max_leased_per_tenant: Option<u32>,
    /// Batches given out per second, such as 50 or 0.5; 0 is any number
    #[arg(long, value_name = "PER-SECOND")]
    pub rate: Option<f64>,
    /// Batches given out at once after a pause, with a rate; unless set, those of a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub burst: Option<u32>,
    /// Most payload bytes that may wait or be worked on, such as 10GB; 0 is any number
    #[arg(long, value_name = "SIZE")]
    pub max_live_bytes: Option<HumanBytes>,
}

impl ConfigureArgs {
    /// Reads the limits, changes those that are named, and sets all.
    ///
    /// # Errors
    /// `invalid_argument` for a burst without a rate; as the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let queues = session.coordinator.stats(Some(&self.name)).await;
        let queues = queues.map_err(|error| session.failed(&error))?;
        let old = queues.into_iter().next().map(|queue| queue.policy).unwrap_or_default();
        let policy = self.applied_to(old)?;
        let control = Control::Configure(self.name.clone(), policy.clone());
        let reply = session.coordinator.control(control).await;
        let reply = reply.map_err(|error| session.failed(&error))?;
        match session.json {
            true => session.console.json(&ControlOutput::from(reply)),
            false => session.console.table(&table(&policy)),
        }
    }

    fn applied_to(&self, old: QueuePolicy) -> Result<QueuePolicy, Failure> {
        let number = |new: Option<u32>, old: Option<u32>| match new {
            Some(0) => None,
            new => new.or(old),
        };
        let bytes = match self.max_live_bytes {
            Some(HumanBytes(0)) => None,
            Some(HumanBytes(bytes)) => Some(bytes),
            None => old.max_live_bytes,
        };
        Ok(QueuePolicy {
            max_leased: number(self.max_leased, old.max_leased),
            max_leased_per_tenant: number(self.max_leased_per_tenant, old.max_leased_per_tenant),
            rate: self.rate(old.rate)?,
            max_live_bytes: bytes,
        })
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 to 1e6")]
    fn rate(&self, old: Option<RateLimit>) -> Result<Option<RateLimit>, Failure> {
        let per_second = match self.rate {
            Some(0.0) => None,
            rate => rate.or(old.map(|old| old.per_second)),
        };
        let Some(per_second) = per_second else {
            if self.burst.is_some() {
                let message = format!("--burst is of a rate; give queue {} --rate too", self.name);
                return Err(Failure::new(sheaf_retry::Code::InvalidArgument, message));
            }
            return Ok(None);
        };
        let second = per_second.ceil().clamp(1.0, 1e6) as u32;
        let kept = old.filter(|_| self.rate.is_none()).map(|old| old.burst);
        let burst = self.burst.or(kept).unwrap_or(second);
        Ok(Some(RateLimit { per_second, burst }))
    }
}

/// Shows the counts and limits of a queue.
pub(super) async fn show(args: QueueArgs, session: &mut Session) -> Result<(), Failure> {
    let queues = session.coordinator.stats(Some(&args.name)).await;
    let queues = queues.map_err(|error| session.failed(&error))?;
    if session.json {
        return session.console.json(&StatsOutput::from(queues));
    }
    let policy = queues.into_iter().next().map(|queue| queue.policy).unwrap_or_default();
    session.console.table(&table(&policy))
}

fn table(policy: &QueuePolicy) -> Table {
    let number = |limit: Option<u32>| limit.map_or("any".to_owned(), |n| count(u64::from(n)));
    let rate = policy.rate.map_or("any".to_owned(), |rate| {
        format!("{} per second, {} at once", rate.per_second, count(u64::from(rate.burst)))
    });
    let bytes = policy.max_live_bytes.map_or("any".to_owned(), |b| HumanBytes(b).to_string());
    let mut table = Table::new(["limit", "value"]);
    table.row(["worked on at once", &number(policy.max_leased)]);
    table.row(["of one tenant", &number(policy.max_leased_per_tenant)]);
    table.row(["given out", &rate]);
    table.row(["live size", &bytes]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ConfigureArgs {
        ConfigureArgs {
            name: "q".to_owned(),
            max_leased: None,
            max_leased_per_tenant: None,
            rate: None,
            burst: None,
            max_live_bytes: None,
        }
    }

    #[test]
    fn what_is_not_named_stays_and_zero_takes_a_limit_away() {
        let old = QueuePolicy {
            max_leased: Some(4),
            max_leased_per_tenant: Some(2),
            rate: Some(RateLimit { per_second: 10.0, burst: 30 }),
            max_live_bytes: Some(1_000),
        };
        let some = ConfigureArgs { max_leased: Some(0), burst: Some(5), ..args() };
        let new = some.applied_to(old.clone()).unwrap();
        let rate = Some(RateLimit { per_second: 10.0, burst: 5 });
        assert_eq!(new, QueuePolicy { max_leased: None, rate, ..old.clone() });
        let rate = ConfigureArgs { rate: Some(2.5), ..args() }.applied_to(old.clone()).unwrap();
        assert_eq!(rate.rate, Some(RateLimit { per_second: 2.5, burst: 3 }));
        let none = ConfigureArgs {
            rate: Some(0.0),
            max_live_bytes: Some(HumanBytes(0)),
            max_leased: Some(0),
            max_leased_per_tenant: Some(0),
            ..args()
        };
        assert_eq!(none.applied_to(old).unwrap(), QueuePolicy::default());
        let lone = ConfigureArgs { burst: Some(2), ..args() };
        assert!(lone.applied_to(QueuePolicy::default()).is_err());
    }
}
