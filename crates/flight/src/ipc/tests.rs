//! Every type there and back, and messages that lie.

use std::sync::Arc;

#[test]
fn zz_experiment() {
    for entry in std::fs::read_dir("/tmp").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("ty_") {
            continue;
        }
        let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
        let mut at = 0;
        let mut messages = Vec::new();
        while at < bytes.len() {
            let n = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            if n == 0 {
                break;
            }
            let header = bytes.slice(at + 8..at + 8 + n);
            let body = super::inspect(&header).unwrap().body_len as usize;
            at += 8 + n;
            messages.push(crate::Message::new(header, bytes.slice(at..at + body)));
            at += body;
        }
        let mut v = super::StreamValidator::new(Default::default());
        for m in &messages {
            if let Err(e) = v.check(m) {
                eprintln!("{name}: VALIDATE {e}");
            }
        }
        let mut d = super::Decoder::new(Default::default());
        let mut batches = vec![];
        let mut schema = None;
        for m in &messages {
            match d.push(m) {
                Err(e) => eprintln!("{name}: DECODE {e}"),
                Ok(super::Decoded::Batch(b)) => batches.push(b),
                Ok(super::Decoded::Schema(s)) => schema = Some(s),
                _ => {}
            }
        }
        let Some(schema) = schema else { continue };
        match super::encode_batches(schema, &batches) {
            Err(e) => eprintln!("{name}: ENCODE {e}"),
            Ok(again) => {
                let mut d = super::Decoder::new(Default::default());
                let mut out = vec![];
                for m in &again {
                    match d.push(m) {
                        Err(e) => eprintln!("{name}: REDECODE {e}"),
                        Ok(super::Decoded::Batch(b)) => out.push(b),
                        _ => {}
                    }
                }
                let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| out == batches));
                eprintln!("{name}: same {r:?}");
            }
        }
    }
    let _ = Arc::new(1);
}
