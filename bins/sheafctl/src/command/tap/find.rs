//! Who sends over an edge, as the registry has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sheaf_pipeline::registry::Component;
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::super::client::Client;

/// An edge that there is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pipeline: String,
    /// The places of the instances that send.
    pub(super) senders: Vec<String>,
}

/// Finds an edge by its name.
pub(super) async fn edge(
    client: &Client,
    edge: &str,
    pipeline: Option<&str>,
) -> Result<Found, Failure> {
    let components = client.components(pipeline).await?;
    choose(&edges(&components), edge)
}

/// By pipeline and name of the edge, who sends.
type Edges = BTreeMap<(String, String), BTreeSet<String>>;

fn edges(components: &[Component]) -> Edges {
    let names: HashMap<&str, &str> =
        components.iter().map(|one| (one.id.as_str(), one.component.as_str())).collect();
    let mut edges = Edges::new();
    for sender in components {
        for reader in &sender.connections.downstream {
            let Some(reader) = names.get(reader.as_str()) else { continue };
            let edge = format!("{}:{reader}", sender.component);
            edges.entry((sender.pipeline.clone(), edge)).or_default().insert(sender.id.clone());
        }
    }
    edges
}

fn choose(edges: &Edges, edge: &str) -> Result<Found, Failure> {
    let mut found = edges.iter().filter(|((_, name), _)| name == edge);
    let Some(((pipeline, _), senders)) = found.next() else {
        let known: Vec<&str> = edges.keys().map(|(_, name)| name.as_str()).collect();
        let failure = Failure::new(Code::NotFound, format!("no edge {edge:?}"));
        return Err(match known.is_empty() {
            true => failure.help("nothing runs here: start it with `sheafctl run FILE`"),
            false => failure.help(format!("there are: {}", known.join(", "))),
        });
    };
    let others: Vec<&str> = found.map(|((other, _), _)| other.as_str()).collect();
    if !others.is_empty() {
        let text = format!("{pipeline} and {} have an edge {edge}", others.join(", "));
        let help = format!("name one: --pipeline {pipeline}");
        return Err(Failure::new(Code::InvalidArgument, text).help(help));
    }
    Ok(Found { pipeline: pipeline.clone(), senders: senders.iter().cloned().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Edges {
        let of = |pipeline: &str, edge: &str, senders: &[&str]| {
            let senders = senders.iter().map(|one| (*one).to_owned()).collect();
            ((pipeline.to_owned(), edge.to_owned()), senders)
        };
        [of("p", "a:b", &["p:a", "p:a.1"]), of("p", "b:c", &["p:b"]), of("q", "b:c", &["q:b"])]
            .into()
    }

    #[test]
    fn all_instances_that_send_are_found() {
        let found = choose(&some(), "a:b").unwrap();
        assert_eq!((found.pipeline.as_str(), found.senders.len()), ("p", 2));
    }

    #[test]
    fn what_is_not_there_or_twice_is_told_with_what_there_is() {
        let failure = choose(&some(), "a:c").unwrap_err();
        assert_eq!((failure.exit_code(), failure.advice()), (3, "there are: a:b, b:c, b:c"));
        let failure = choose(&some(), "b:c").unwrap_err();
        assert_eq!(failure.to_string(), "p and q have an edge b:c");
        assert_eq!(failure.advice(), "name one: --pipeline p");
        assert!(choose(&Edges::new(), "a:b").unwrap_err().advice().contains("nothing runs"));
    }
}
