//! How far each partition has been written: the table `_sheaf_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use sheaf_retry::Code;

use super::dialect::{identifier, literal};
use super::session::Session;
use crate::error::Error;

/// The table of positions; it and other names with this beginning are Sheaf's.
pub(super) const TABLE: &str = "_sheaf_offsets";

/// What the rows are written by; newer ones are refused.
const VERSION: i64 = 1;

/// More partitions than a group has.
const MAX_POSITIONS: usize = 1_000_000;

/// How far a partition has been written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the first message that is not in the tables: where to go on.
    pub next_offset: i64,
}

/// A topic and a partition of it.
pub(super) type Place = (String, i32);

/// The next offset of each.
pub(super) type Positions = BTreeMap<Place, i64>;

/// Positions by their place, where each has one only.
pub(super) fn by_place(positions: &[Position]) -> Result<Positions, Error> {
    let mut all = Positions::new();
    for Position { topic, partition, next_offset } in positions {
        if all.insert((topic.clone(), *partition), *next_offset).is_some() {
            return Err(Error::Invalid(format!("two positions of {topic}, partition {partition}")));
        }
    }
    Ok(all)
}

/// Makes the table where it is not there.
pub(super) fn create(session: &mut Session) -> Result<(), Error> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {} (\"group\" VARCHAR(255) NOT NULL, \"topic\" VARCHAR(255) \
         NOT NULL, \"partition\" INTEGER NOT NULL, \"next_offset\" BIGINT NOT NULL, \"version\" \
         INTEGER NOT NULL, PRIMARY KEY (\"group\", \"topic\", \"partition\"))",
        identifier(TABLE)?
    );
    session.update("create the positions in", &sql).map(drop)
}

/// All positions of a group, as this transaction sees them.
pub(super) fn read(session: &mut Session, group: &str) -> Result<Positions, Error> {
    let sql = format!(
        "SELECT \"topic\", \"partition\", \"next_offset\", \"version\" FROM {} WHERE \"group\" = {}",
        identifier(TABLE)?,
        literal(group)?
    );
    let mut positions = Positions::new();
    for batch in session.query(&sql, MAX_POSITIONS)? {
        let topics = session.texts(&batch, 0)?;
        let number = |place| session.column(&batch, place, &DataType::Int64);
        let numbers = [number(1)?, number(2)?, number(3)?];
        let [partitions, offsets, versions] =
            numbers.each_ref().map(|n| n.as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            if versions.value(row) > VERSION {
                let (place, found) = (session.place(), versions.value(row));
                let why = format!("{TABLE} has version {found}, this build knows {VERSION}");
                return Err(Error::external(
                    "read the positions in",
                    place,
                    Code::FormatNewer,
                    why,
                ));
            }
            let partition = i32::try_from(partitions.value(row)).map_err(|error| {
                Error::external("read the positions in", session.place(), Code::Corrupt, error)
            })?;
            positions.insert((topics.value(row).to_owned(), partition), offsets.value(row));
        }
    }
    Ok(positions)
}

/// That each place is stored as it is believed to be.
pub(super) fn check<'a>(
    group: &str,
    places: impl Iterator<Item = &'a Place>,
    believed: &Positions,
    stored: &Positions,
) -> Result<(), Error> {
    for place in places {
        let (expected, found) = (believed.get(place), stored.get(place));
        if expected != found {
            return Err(fenced(group, place, expected.copied(), found.copied()));
        }
    }
    Ok(())
}

fn fenced(group: &str, place: &Place, expected: Option<i64>, found: Option<i64>) -> Error {
    let (group, (topic, partition)) = (group.to_owned(), place.clone());
    Error::Fenced { group, topic, partition, expected, found }
}

/// That rows are of what comes behind each place: those before it are there.
pub(super) fn goes_on(group: &str, believed: &Positions, next: &Positions) -> Result<(), Error> {
    for (place, next) in next {
        if let Some(found) = believed.get(place).filter(|found| *found >= next) {
            return Err(fenced(group, place, Some(*next), Some(*found)));
        }
    }
    Ok(())
}

/// Replaces what is believed to be stored by `next`.
pub(super) fn write(
    session: &mut Session,
    group: &str,
    believed: &Positions,
    next: &Positions,
) -> Result<(), Error> {
    const OPERATION: &str = "write positions to";
    /// Of one statement.
    const MAX_ROWS: usize = 1_000;

    let (table, group_literal) = (identifier(TABLE)?, literal(group)?);
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for (place, offset) in next {
        let (topic, partition) = (literal(&place.0)?, place.1);
        match believed.get(place) {
            None => {
                new.push(format!("({group_literal}, {topic}, {partition}, {offset}, {VERSION})"))
            }
            Some(expected) => known.push(format!("({topic}, {partition}, {expected}, {offset})")),
        }
    }
    for rows in known.chunks(MAX_ROWS) {
        // The last condition is for databases where a transaction sees what
        // others have committed meanwhile.
        let sql = format!(
            "WITH n(topic, part, expected, next) AS (VALUES {}) UPDATE {table} SET \
             \"next_offset\" = n.next, \"version\" = {VERSION} FROM n WHERE \"group\" = \
             {group_literal} AND {table}.\"topic\" = n.topic AND \"partition\" = n.part AND \
             \"next_offset\" = n.expected",
            rows.join(", ")
        );
        let changed = session.update(OPERATION, &sql)?;
        if changed.is_some_and(|changed| usize::try_from(changed).is_ok_and(|n| n < rows.len())) {
            return check(group, next.keys(), believed, &read(session, group)?).and_then(|()| {
                let why = format!("{changed:?} of {} positions were changed", rows.len());
                Err(Error::external(OPERATION, session.place(), Code::Unavailable, why))
            });
        }
    }
    for rows in new.chunks(MAX_ROWS) {
        session.update(OPERATION, &format!("INSERT INTO {table} VALUES {}", rows.join(", ")))?;
    }
    Ok(())
}

/// In the form of the public interface.
pub(super) fn listed(positions: &Positions, only: Option<&BTreeSet<Place>>) -> Vec<Position> {
    let wanted = positions.iter().filter(|(place, _)| only.is_none_or(|only| only.contains(place)));
    wanted
        .map(|((topic, partition), &next_offset)| Position {
            topic: topic.clone(),
            partition: *partition,
            next_offset,
        })
        .collect()
}
