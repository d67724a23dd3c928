//! A name server on this machine, which says what it is told to.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

const A: u16 = 1;
const AAAA: u16 = 28;

#[derive(Clone)]
pub enum Says {
    Nothing,
    NothingOfV6(Ipv4Addr),
    Is(Ipv4Addr, u32),
    /// Only over TCP: the answer does not fit into a datagram.
    IsLong(Ipv4Addr),
    Fails,
}

#[derive(Clone, Default)]
pub struct Zone {
    says: Arc<Mutex<HashMap<String, Says>>>,
    pub asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Zone {
    pub fn say(&self, name: &str, says: Says) {
        self.says.lock().insert(name.to_owned(), says);
    }

    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().iter().filter(|(asked, kind)| asked == name && *kind == A).count()
    }

    /// RFC 1035 §4, with no more than our questions need.
    fn answer(&self, question: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let (name, kind) = (labels.join("."), u16::from_be_bytes([question[at + 1], question[at + 2]]));
        self.asked.lock().push((name.clone(), kind));
        let says = self.says.lock().get(&name).cloned();
        let (address, code, is_cut) = match says {
            Some(Says::Nothing) => return None,
            Some(Says::NothingOfV6(_)) if kind == AAAA => return None,
            Some(Says::Fails) => (None, 2, false),
            None => (None, 3, false),
            Some(Says::IsLong(_)) if !is_tcp => (None, 0, true),
            Some(Says::Is(..) | Says::IsLong(_)) if kind == AAAA => (None, 0, false),
            Some(Says::Is(address, ttl)) => (Some((address, ttl)), 0, false),
            Some(Says::IsLong(address) | Says::NothingOfV6(address)) => (Some((address, 60)), 0, false),
        };
        let mut answer = question[..2].to_vec();
        let is_empty = address.is_none() && !is_cut;
        answer.extend([0x81 | u8::from(is_cut) << 1, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, u8::from(is_empty), 0, 0]);
        answer.extend(&question[12..at + 5]);
        if let Some((address, ttl)) = address {
            answer.extend([0xc0, 12, 0, 1, 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        if is_empty {
            // An SOA that wants it kept for an hour (RFC 2308 §5).
            answer.extend([0, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0]);
            answer.extend([0, 0, 14, 16].repeat(5));
        }
        Some(answer)
    }

    /// Until what it returns is dropped. By UDP and TCP; port 0 is a free one.
    pub async fn serve(&self, at: SocketAddr) -> io::Result<(SocketAddr, JoinSet<()>)> {
        let mut tasks = JoinSet::new();
        let udp = UdpSocket::bind(at).await?;
        let at = udp.local_addr()?;
        let tcp = TcpListener::bind(at).await?;
        let zone = self.clone();
        tasks.spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut question).await {
                if let Some(answer) = zone.answer(&question[..length], false) {
                    let _ = udp.send_to(&answer, from).await;
                }
            }
        });
        let zone = self.clone();
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((mut stream, _)) = tcp.accept().await {
                let zone = zone.clone();
                streams.spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut question = vec![0; usize::from(length)];
                        stream.read_exact(&mut question).await.unwrap();
                        if let Some(answer) = zone.answer(&question, true) {
                            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                            stream.write_all(&answer).await.unwrap();
                        }
                    }
                });
            }
        });
        Ok((at, tasks))
    }
}
