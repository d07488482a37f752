//! Where a client's bytes go, as the thread that reads the client writes them. Without a takeover that is the socket to
//! the node. With one it is the socket to the present node; while there is none, pings are answered here.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::client_frames::{ClientFrame, ClientFrames};
use super::client_side::ClientSide;
use super::frame::{CLOSE, PING};
use super::kept::Kept;
use super::key_watch::KeyWatch;
use super::seat::Seat;

/// A ping or a close frame of the client as this node gets it: another node had its beginning. Nothing for any other
/// frame.
fn control_frame(frame: ClientFrame<'_>) -> Vec<u8> {
    const FIN: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let (opcode, payload) = match frame {
        ClientFrame::Ping(payload) => (PING, payload),
        ClientFrame::Close(payload) => (CLOSE, payload),
        ClientFrame::Message(_) | ClientFrame::Strange => return Vec::new(),
    };
    // A control frame has at most 125 bytes. Its masking key is 0.
    [&[FIN | opcode, MASKED | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The pause while the client does not read the answers to its pings.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the client's bytes go.
pub struct ToNode<'t> {
    socket: Arc<Socket>,
    keys: &'t mut Option<KeyWatch>,
    following: Option<Following<'t>>,
}

struct Following<'t> {
    kept: Arc<Kept>,
    /// Its seat, which is all that this thread touches of it for most bytes.
    seat: Arc<Seat>,
    sending: Sending<'t>,
}

/// How far the client's frames have come.
struct Sending<'t> {
    client: ClientSide<'t>,
    frames: ClientFrames,
    /// That of the socket.
    generation: u64,
    /// The rest of the frame under way is for no node: none has its beginning.
    skips: bool,
}

impl<'t> ToNode<'t> {
    /// To the first node. `kept` is what is kept of the session, if it can be taken over.
    pub fn new(
        socket: &Arc<Socket>,
        keys: &'t mut Option<KeyWatch>,
        kept: Option<&Arc<Kept>>,
        client: ClientSide<'t>,
    ) -> Self {
        let following = kept.map(|kept| {
            let (frames, generation) = (ClientFrames::new(kept.looks_at_messages()), kept.seat().generation());
            let sending = Sending { client, frames, generation, skips: false };
            Following { kept: Arc::clone(kept), seat: Arc::clone(kept.seat()), sending }
        });
        Self { socket: Arc::clone(socket), keys, following }
    }
}

impl Write for ToNode<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let key = self.keys.as_mut().and_then(|keys| keys.look(bytes));
        match &mut self.following {
            Some(following) => following.send(&mut self.socket, bytes)?,
            None => (&*self.socket).write_all(bytes)?,
        }
        if let (Some(keys), Some(key)) = (&self.keys, key) {
            keys.note(key, self.following.as_ref().map(|following| &*following.kept));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Following<'_> {
    fn send(&mut self, socket: &mut Arc<Socket>, bytes: &[u8]) -> io::Result<()> {
        // No other thread writes to the node within a frame of the client.
        let mut is_within_frame = self.seat.is_within_frame.lock();
        let sent = self.sending.send(&self.kept, &self.seat, socket, bytes);
        *is_within_frame = self.sending.frames.is_within();
        sent
    }
}

impl Sending<'_> {
    fn send(&mut self, kept: &Kept, seat: &Seat, socket: &mut Arc<Socket>, bytes: &[u8]) -> io::Result<()> {
        let was_within = self.frames.is_within();
        let mut first = None;
        let end = self.frames.pass(bytes, |frame| {
            // Only a frame that had begun before can have its beginning at another node.
            if was_within {
                first.get_or_insert_with(|| control_frame(frame));
            }
            kept.note_client_frame(frame);
        });
        if seat.generation() != self.generation {
            if let Some(now) = seat.socket() {
                (*socket, self.generation) = now;
            }
            self.skips |= was_within;
        }
        let whole;
        let bytes = match end {
            _ if !self.skips => bytes,
            Some(end) => {
                self.skips = false;
                whole = [&first.unwrap_or_default(), &bytes[end..]].concat();
                &whole
            }
            None => return Ok(()),
        };
        if self.generation % 2 == 1 {
            return self.answer(kept, socket, bytes);
        }
        match (&**socket).write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) if !kept.can_be_taken_over() => Err(error),
            Err(_) => self.answer(kept, socket, bytes),
        }
    }

    /// There is no node for these bytes, or it has just been lost.
    fn answer(&mut self, kept: &Kept, socket: &mut Arc<Socket>, bytes: &[u8]) -> io::Result<()> {
        while !kept.answer_pings(self.client) {
            let Some((now, generation)) = kept.seat().socket() else { return Ok(()) };
            if generation == self.generation {
                // The other thread has not noticed yet. It answers the pings when it does.
                let _ = now.shutdown(std::net::Shutdown::Both);
                self.skips = self.frames.is_within();
                return Ok(());
            }
            (*socket, self.generation) = (now, generation);
            if generation % 2 == 0 {
                // A node is there again.
                return (&**socket).write_all(bytes);
            }
        }
        self.skips = self.frames.is_within();
        while kept.owes_too_much(self.client) && !kept.client_left() && kept.seat().generation() % 2 == 1 {
            kept.seat().pause(PAUSE);
        }
        Ok(())
    }
}
