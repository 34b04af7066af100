use std::mem;

/// Longest line that is read, in bytes. What is longer is passed over with its event: a snapshot of a
/// service in trouble carries all of its alerts.
const MAX_LINE: usize = 1 << 20;

/// One server-sent event. Its data is not read: nobody here needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Event {
    /// What to come back with, if the event says so.
    pub(super) id: Option<String>,
    /// Its kind; `message` if it does not say.
    pub(super) name: String,
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// The line is too long; its rest is not kept.
    overlong: bool,
    /// The last byte was a carriage return, which ends a line alone or with a line feed.
    returned: bool,
    event: Event,
    /// The event has data, and so is one.
    has_data: bool,
}

impl Events {
    /// The events that `bytes` completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.returned => self.returned = false,
                b'\n' | b'\r' => {
                    self.returned = *byte == b'\r';
                    events.extend(self.end_of_line());
                }
                _ => {
                    self.returned = false;
                    self.overlong |= self.line.len() >= MAX_LINE;
                    if !self.overlong {
                        self.line.push(*byte);
                    }
                }
            }
        }
        events
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = mem::take(&mut self.line);
        self.overlong = false;
        if line.is_empty() {
            let mut event = mem::take(&mut self.event);
            if event.name.is_empty() {
                event.name = "message".into();
            }
            return mem::take(&mut self.has_data).then_some(event);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => self.has_data = true,
            // A comment, a hint when to come back, or something new.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, name: &str) -> Event {
        Event {
            id: id.map(String::from),
            name: name.into(),
        }
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream = ": hello\nretry: 5\n\nid: 7\nevent: mode\ndata: {\"a\":1}\n\n\
                      : alive\r\n\r\nid:8\r\nevent:snapshot\r\ndata:x\r\ndata:y\r\n\r\n\
                      event: empty\n\ndata\n\nid: 9\rdata: z\r\r";
        let expected = [
            event(Some("7"), "mode"),
            event(Some("8"), "snapshot"),
            event(None, "message"),
            event(Some("9"), "message"),
        ];
        for size in 1..stream.len() {
            let mut events = Events::default();
            let chunks = stream.as_bytes().chunks(size);
            let found: Vec<_> = chunks.flat_map(|chunk| events.push(chunk)).collect();
            assert_eq!(found, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_share() {
        let mut events = Events::default();
        events.push(b"id: 1\ndata: ");
        for _ in 0..3 * MAX_LINE / 1024 {
            assert_eq!(events.push(&[b'x'; 1024]), []);
            assert!(events.line.len() <= MAX_LINE);
        }
        assert_eq!(events.push(b"\n\n"), [event(Some("1"), "message")]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500)) {
            Events::default().push(&bytes);
        }
    }
}
