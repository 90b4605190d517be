//! A small HTTP server that answers as a test says, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(own, _)| own == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// An answer: status, headers and body.
pub(crate) struct Answer(pub(crate) u16, pub(crate) Vec<(&'static str, String)>, pub(crate) String);

pub(crate) fn ok(body: impl Into<String>) -> Answer {
    Answer(200, Vec::new(), body.into())
}

type Answers = Arc<dyn Fn(usize, &Asked) -> Answer + Send + Sync>;

pub(crate) struct HttpServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl HttpServer {
    /// Answers each request by its number, from 0.
    pub(crate) fn start(answer: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer): (Arc<Mutex<Vec<Asked>>>, Answers) = (Arc::default(), Arc::new(answer));
        let all = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &all, &answer));
            }
        });
        HttpServer { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Asked>>, answer: &Answers) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut asked = Asked::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line if asked.line.is_empty() => asked.line = line.to_owned(),
            line => {
                let (name, value) = line.split_once(':').unwrap();
                asked.headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
        }
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).unwrap();
    let mut all = all.lock().unwrap();
    let Answer(status, headers, body) = answer(all.len(), &asked);
    all.push(asked);
    drop(all);
    let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
    head += &format!("content-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    // The client may have gone before the end of an answer that is too long.
    drop(stream.write_all(format!("{head}\r\n{body}").as_bytes()));
}
