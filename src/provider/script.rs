//! A server on loopback that answers as a test says, down to the bytes; on threads of its own, so that it is no part of what
//! is tested.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use reqwest::Url;
use url::form_urlencoded;

pub struct Server {
    pub url: Url,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone)]
pub struct Request {
    /// Method and target.
    pub line: String,
    /// Lower case.
    pub headers: String,
    pub form: Vec<(String, String)>,
}

impl Server {
    /// Answers each request by `answer` and closes the connection.
    pub fn start(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer, mut stream) = (Arc::clone(&seen), Arc::clone(&answer), stream.unwrap());
                thread::spawn(move || {
                    let request = Request::read(&stream);
                    seen.lock().push(request.clone());
                    answer(&request, &mut stream);
                });
            }
        });
        Self { url, requests }
    }

    pub fn at(&self, path: &str) -> Url {
        self.url.join(path).unwrap()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") && !headers.eq("\r\n") {
            assert_ne!(reader.read_line(&mut headers).unwrap(), 0, "half a request");
        }
        let headers = headers.to_lowercase();
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        Self { line: line.replace(" HTTP/1.1\r\n", ""), headers, form: form_urlencoded::parse(&body).into_owned().collect() }
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Writes a whole answer; `headers` are whole lines, each with its line break.
pub fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    // The client may have gone.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Says nothing until the client goes.
pub fn keep_silent(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}
