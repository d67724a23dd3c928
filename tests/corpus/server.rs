//! A provider of bytes: it answers what it is told to, on threads of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use reqwest::Url;
use url::form_urlencoded;

use super::cases::{Answer, Framing};

pub struct Server {
    pub url: Url,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    document: Option<String>,
    answer: Option<Answer>,
    requests: Vec<Received>,
}

#[derive(Clone, Debug)]
pub struct Received {
    /// Method and target.
    pub line: String,
    pub headers: BTreeMap<String, String>,
    /// The form's or the JSON object's.
    pub members: BTreeMap<String, String>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, mut stream) = (Arc::clone(&shared), stream.unwrap());
                thread::spawn(move || serve(&state, &mut stream));
            }
        });
        Self { url, state }
    }

    /// What discovery finds.
    pub fn describe(&self, document: String) {
        self.state.lock().document = Some(document);
    }

    /// What every request gets from now on.
    pub fn answer(&self, answer: Answer) {
        self.state.lock().answer = Some(answer);
    }

    pub fn take_requests(&self) -> Vec<Received> {
        std::mem::take(&mut self.state.lock().requests)
    }
}

fn serve(state: &Mutex<State>, stream: &mut TcpStream) {
    let Some(received) = Received::read(stream) else { return };
    if received.line.contains("/.well-known/") {
        let document = state.lock().document.clone();
        let answer = match document.filter(|_| received.line.contains("openid-configuration")) {
            Some(body) => Answer { status: 200, headers: BTreeMap::new(), body, framing: Framing::ContentLength },
            None => Answer { status: 404, headers: BTreeMap::new(), body: String::new(), framing: Framing::ContentLength },
        };
        return write(stream, &answer);
    }
    let answer = {
        let mut state = state.lock();
        state.requests.push(received);
        state.answer.clone()
    };
    if let Some(answer) = answer {
        write(stream, &answer);
    }
}

fn write(stream: &mut TcpStream, answer: &Answer) {
    let Answer { status, headers, body, framing } = answer;
    let framed = match framing {
        Framing::ContentLength | Framing::Half => format!("content-length: {}\r\n\r\n", body.len()),
        Framing::Chunked => "transfer-encoding: chunked\r\n\r\n".to_owned(),
        Framing::Close => "\r\n".to_owned(),
        Framing::Nothing => return,
        Framing::Silence => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let body = match framing {
        Framing::Half => body.get(..body.len() / 2).unwrap_or_default().to_owned(),
        Framing::Chunked => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        _ => body.clone(),
    };
    let mut text = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // The client may have gone.
    let _ = stream.write_all(format!("{text}{framed}{body}").as_bytes());
}

impl Received {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let members = match serde_json::from_slice::<BTreeMap<String, String>>(&body) {
            Ok(members) => members,
            Err(_) => {
                let pairs: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
                let members: BTreeMap<_, _> = pairs.iter().cloned().collect();
                assert_eq!(pairs.len(), members.len(), "a parameter was sent twice");
                members
            }
        };
        Some(Self { line: line.replace(" HTTP/1.1\r\n", ""), headers, members })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}
