//! The upstream of `compare.py`: answers every request with the same bytes, on one thread, and does nothing else, so that it
//! is never what is measured.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9000")).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A proxy that goes away is no news.
        tokio::spawn(async { answer(stream).await.unwrap_or_default() });
    }
}

/// Requests have no bodies: each ends with an empty line.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut bytes, mut filled) = ([0_u8; 16384], 0);
    loop {
        match stream.read(&mut bytes[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        while let Some(end) = bytes[..filled].windows(4).position(|piece| piece == b"\r\n\r\n") {
            stream.write_all(ANSWER).await?;
            bytes.copy_within(end + 4..filled, 0);
            filled -= end + 4;
        }
    }
}
