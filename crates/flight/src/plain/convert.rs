//! Between Flight's protobuf messages and what handlers see.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Location, PollInfo, Ticket,
};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::Error;
use crate::handler::{EndpointEntry, FlightEntry, Progress, RawDescriptor, SAME_CONNECTION};
use crate::message::Message;
use crate::router::Asked;

/// What precedes the length of an encapsulated message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Takes the message out of a FlightData; nothing is copied.
pub(crate) fn message_from_wire(data: FlightData) -> Message {
    Message { app_metadata: data.app_metadata, ..Message::new(data.data_header, data.data_body) }
}

/// Copies the body only where it is in several pieces.
pub(crate) fn message_to_wire(message: Message) -> FlightData {
    FlightData {
        flight_descriptor: None,
        data_body: message.contiguous_body(),
        data_header: message.header,
        app_metadata: message.app_metadata,
    }
}

/// A descriptor as the router reads it. One without a type is read by the
/// field that is set.
pub(crate) fn asked(descriptor: Option<FlightDescriptor>) -> Asked {
    let descriptor = descriptor?;
    match descriptor.r#type() {
        DescriptorType::Path => Some(RawDescriptor::Path(descriptor.path)),
        DescriptorType::Cmd => Some(RawDescriptor::Command(descriptor.cmd)),
        DescriptorType::Unknown if !descriptor.path.is_empty() => {
            Some(RawDescriptor::Path(descriptor.path))
        }
        DescriptorType::Unknown if !descriptor.cmd.is_empty() => {
            Some(RawDescriptor::Command(descriptor.cmd))
        }
        DescriptorType::Unknown => None,
    }
}

/// A descriptor as it goes over the wire.
pub(crate) fn descriptor_to_wire(descriptor: RawDescriptor) -> FlightDescriptor {
    match descriptor {
        RawDescriptor::Path(path) => {
            FlightDescriptor { r#type: DescriptorType::Path.into(), cmd: Bytes::new(), path }
        }
        RawDescriptor::Command(cmd) => {
            FlightDescriptor { r#type: DescriptorType::Cmd.into(), cmd, path: Vec::new() }
        }
    }
}

/// An entry as clients of any language read it.
pub(crate) fn info_to_wire(entry: FlightEntry) -> FlightInfo {
    let descriptor = match entry.command {
        Some(command) => RawDescriptor::Command(command),
        None => RawDescriptor::Path(entry.path),
    };
    FlightInfo {
        schema: encapsulate(&entry.schema),
        flight_descriptor: Some(descriptor_to_wire(descriptor)),
        endpoint: entry.endpoints.into_iter().map(endpoint_to_wire).collect(),
        total_records: entry.total_records,
        total_bytes: entry.total_bytes,
        ordered: entry.ordered,
        app_metadata: entry.app_metadata,
    }
}

/// One endpoint.
pub(crate) fn endpoint_to_wire(endpoint: EndpointEntry) -> FlightEndpoint {
    FlightEndpoint {
        ticket: Some(Ticket { ticket: endpoint.ticket }),
        location: endpoint.locations.into_iter().map(|uri| Location { uri }).collect(),
        expiration_time: endpoint.expires_at_micros.and_then(time_to_wire),
        app_metadata: endpoint.app_metadata,
    }
}

/// Microseconds since 1970; a time beyond the year 294,000 is left out.
fn time_to_wire(micros: u64) -> Option<prost_types::Timestamp> {
    let seconds = i64::try_from(micros / 1_000_000).ok()?;
    let nanos = i32::try_from(micros % 1_000_000 * 1_000).ok()?;
    Some(prost_types::Timestamp { seconds, nanos })
}

/// How far the work is, as clients of any language read it.
pub(crate) fn progress_to_wire(progress: Progress) -> Result<PollInfo, Error> {
    if let Some(fraction) = progress.fraction.filter(|part| !(0.0..=1.0).contains(part)) {
        let text = format!("the handler says that {fraction} is done, which is not from 0 to 1");
        return Err(Error::new(sheaf_retry::Code::Internal, text));
    }
    Ok(PollInfo {
        info: Some(info_to_wire(progress.entry)),
        flight_descriptor: progress.next.map(descriptor_to_wire),
        progress: progress.fraction,
        expiration_time: progress.expires_at_micros.and_then(time_to_wire),
    })
}

/// An entry as a server described it.
pub(crate) fn info_from_wire(info: FlightInfo) -> Result<FlightEntry, Error> {
    let (path, command) = match asked(info.flight_descriptor) {
        Some(RawDescriptor::Path(path)) => (path, None),
        Some(RawDescriptor::Command(command)) => (Vec::new(), Some(command)),
        None => (Vec::new(), None),
    };
    Ok(FlightEntry {
        path,
        command,
        schema: unwrap_schema(info.schema)?,
        total_records: info.total_records,
        total_bytes: info.total_bytes,
        endpoints: info.endpoint.into_iter().map(endpoint_from_wire).collect(),
        ordered: info.ordered,
        app_metadata: info.app_metadata,
    })
}

fn endpoint_from_wire(endpoint: FlightEndpoint) -> EndpointEntry {
    let ticket = endpoint.ticket.map(|ticket| ticket.ticket).unwrap_or_default();
    let expires_at_micros = endpoint.expiration_time.and_then(|time| {
        let seconds = u64::try_from(time.seconds).ok()?;
        let micros = u64::try_from(time.nanos).ok()? / 1_000;
        seconds.checked_mul(1_000_000)?.checked_add(micros)
    });
    let locations = endpoint
        .location
        .into_iter()
        .map(|location| location.uri)
        .filter(|uri| !uri.is_empty() && uri != SAME_CONNECTION)
        .collect();
    EndpointEntry { ticket, locations, expires_at_micros, app_metadata: endpoint.app_metadata }
}

/// A schema message in its IPC form: continuation, length, flatbuffer padded to 8.
fn encapsulate(header: &Bytes) -> Bytes {
    if header.is_empty() {
        return Bytes::new();
    }
    let padded = header.len().next_multiple_of(8);
    let mut framed = BytesMut::with_capacity(padded + 8);
    framed.put_slice(&CONTINUATION);
    // A schema is at most 16 MiB here; a longer one could not have come in.
    framed.put_u32_le(u32::try_from(padded).unwrap_or(u32::MAX));
    framed.put_slice(header);
    framed.put_bytes(0, padded - header.len());
    framed.freeze()
}

/// The flatbuffer within the IPC form, which older senders write without continuation.
fn unwrap_schema(framed: Bytes) -> Result<Bytes, Error> {
    if framed.is_empty() {
        return Ok(framed);
    }
    let start = if framed.starts_with(&CONTINUATION) { 4 } else { 0 };
    let length = framed.get(start..start + 4).and_then(|bytes| bytes.try_into().ok());
    let length = length.map(u32::from_le_bytes).and_then(|length| usize::try_from(length).ok());
    let body = length.and_then(|length| (start + 4).checked_add(length)).map(|end| start + 4..end);
    match body {
        Some(range) if range.end <= framed.len() => Ok(framed.slice(range)),
        _ => Err(Error::new(
            sheaf_retry::Code::MalformedData,
            format!("the server's schema of {} bytes is cut short", framed.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_there_and_back_whole() {
        let mut message = Message::new(Bytes::from_static(b"header"), Bytes::from_static(b"body"));
        message.app_metadata = Bytes::from_static(b"meta");
        assert_eq!(message_from_wire(message_to_wire(message.clone())), message);
        message.body = vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")];
        let whole = message_from_wire(message_to_wire(message));
        assert_eq!(whole.body, [Bytes::from_static(b"body")]);
    }

    #[test]
    fn an_entry_goes_there_and_back_whole() {
        let endpoint = EndpointEntry {
            locations: vec!["grpc://127.0.0.1:1".to_owned()],
            expires_at_micros: Some(1_700_000_000_123_456),
            app_metadata: Bytes::from_static(b"part"),
            ..EndpointEntry::new(&b"batches/\xff"[..])
        };
        let entry = FlightEntry {
            path: Vec::new(),
            command: Some(Bytes::from_static(b"SELECT \xff")),
            schema: Bytes::from_static(b"12345678abcdefgh"),
            total_records: 3,
            total_bytes: -1,
            endpoints: vec![endpoint],
            ordered: true,
            app_metadata: Bytes::from_static(b"{}"),
        };
        let back = info_from_wire(info_to_wire(entry.clone())).unwrap();
        assert_eq!(format!("{back:?}"), format!("{entry:?}"));
        let path = vec!["batches".to_owned(), "a".to_owned()];
        let entry = FlightEntry { path, command: None, ..entry };
        let back = info_from_wire(info_to_wire(entry.clone())).unwrap();
        assert_eq!(format!("{back:?}"), format!("{entry:?}"));
    }

    #[test]
    fn progress_is_from_0_to_1() {
        let entry = || info_from_wire(FlightInfo::default()).unwrap();
        for fraction in [0.0, 0.1, 1.0] {
            let progress = Progress { fraction: Some(fraction), ..Progress::from(entry()) };
            assert_eq!(progress_to_wire(progress).unwrap().progress, Some(fraction));
        }
        for fraction in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let progress = Progress { fraction: Some(fraction), ..Progress::from(entry()) };
            assert!(progress_to_wire(progress).is_err(), "{fraction}");
        }
    }

    #[test]
    fn a_schema_that_is_cut_short_is_an_error() {
        for framed in [&b"\xff\xff\xff\xff"[..], b"\xff\xff\xff\xff\x08\0\0\0abc", b"\x01"] {
            assert!(unwrap_schema(Bytes::copy_from_slice(framed)).is_err());
        }
        let old_form = Bytes::from_static(b"\x04\0\0\0abcd");
        assert_eq!(unwrap_schema(old_form).unwrap(), Bytes::from_static(b"abcd"));
    }
}
