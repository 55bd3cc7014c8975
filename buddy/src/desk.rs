//! Who comes to a board's owner, and what they ask → who reads, who alone may write, which tool has the tty, in which mode the board
//! is, and when the owner may be replaced.

use sai_core::limits::Millis;
use sai_core::ordered::Map;

/// Most clients at a time: readers beside one job.
pub const CLIENTS_MAX: usize = 32;

/// A connection, by a number of its own.
pub type Client = u64;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody connected: the number of the process.
    Came(Client, i32),
    /// It wants to be the one that writes, and says what as.
    Claim(Client, String),
    /// It no longer wants to.
    Release(Client),
    /// It wants to send something.
    Send(Client),
    /// It wants a tty for a tool, which it starts itself.
    Tool(Client),
    /// Its tool has ended.
    ToolEnded(Client),
    /// It wants the board in this mode; `None` to move lines otherwise, after which the mode is not known.
    Move(Client, Option<String>),
    /// What was moved has been, and the board is in this mode.
    Moved(Option<String>),
    /// It wants the owner to become another program.
    Update(Client),
    /// It wants the owner to end, and the board to be let go.
    Stop(Client),
    /// It is gone: it ended, died or broke off.
    Gone(Client),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// It may write from now on, or may do what it asked for.
    Grant(Client),
    /// It may not, and this is why.
    Refuse(Client, String),
    /// It is let in no further.
    Close(Client),
    /// It gets a tty for its tool.
    OpenTool(Client),
    /// That tty is closed, and the console is as its bench says again.
    CloseTool,
    /// What waits to be sent is not.
    DropSent,
    /// Lines are moved: the way to a mode, or what the client asked for.
    Move(Client, Option<String>),
    /// The owner becomes the program that is at its own's place now, with all that it holds.
    Update(Client),
    /// The owner ends.
    Stop(Client),
}

/// In which mode a board is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody knows: the owner is new, or lines were moved.
    #[default]
    Unknown,
    /// It is on the way.
    Moving,
    /// It is in this one.
    Reached(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    client: Client,
    name: String,
}

/// The machine. See the file's first line.
#[derive(Debug, Default)]
pub struct Desk {
    clients: Map<Client, i32>,
    writer: Option<Writer>,
    tool: Option<Client>,
    mode: Mode,
    /// Whether a tool was broken off while lines were moved: what they reach says nothing.
    broken: bool,
    /// Who waits for the owner to become another program.
    update: Option<Client>,
}

impl Desk {
    /// One of an owner that goes on from another program: its board's mode is known as before.
    pub fn going_on(mode: Mode) -> Self {
        // What was under way is not: an update waits for its end.
        let mode = if mode == Mode::Moving { Mode::Unknown } else { mode };
        Desk { mode, ..Desk::default() }
    }

    /// In which mode the board is.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Who writes, and as what.
    pub fn writer(&self) -> Option<(Client, &str)> {
        self.writer.as_ref().map(|writer| (writer.client, writer.name.as_str()))
    }

    /// Whether what this one sends goes out.
    pub fn may_send(&self, client: Client) -> bool {
        let mut out = Vec::new();
        self.ask(client, Output::Grant(client), &mut out);
        out == [Output::Grant(client)]
    }

    /// Whether a tool has the tty.
    pub fn has_tool(&self) -> bool {
        self.tool.is_some()
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, _now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Came(client, _) if self.clients.len() >= CLIENTS_MAX => {
                out.push(Output::Refuse(client, format!("the board has {CLIENTS_MAX} readers")));
                out.push(Output::Close(client));
            }
            Input::Came(client, process) => {
                self.clients.insert(client, process);
            }
            Input::Claim(client, name) => match &self.writer {
                Some(writer) if writer.client != client => out.push(Output::Refuse(client, self.taken(writer))),
                _ => {
                    self.writer = Some(Writer { client, name });
                    out.push(Output::Grant(client));
                }
            },
            Input::Release(client) => {
                self.give_up(client, out);
                out.push(Output::Grant(client));
            }
            Input::Send(client) => self.ask(client, Output::Grant(client), out),
            Input::Tool(client) => {
                let asked = out.len();
                self.ask(client, Output::OpenTool(client), out);
                if out.get(asked) == Some(&Output::OpenTool(client)) {
                    self.tool = Some(client);
                    // It may write to the board's memory, or reset it.
                    self.mode = Mode::Unknown;
                }
            }
            Input::ToolEnded(client) if self.tool == Some(client) => {
                self.tool = None;
                out.push(Output::CloseTool);
                out.push(Output::Grant(client));
            }
            Input::ToolEnded(client) => out.push(Output::Refuse(client, "it has no tool".into())),
            Input::Move(client, mode) => {
                let asked = out.len();
                self.ask(client, Output::Move(client, mode), out);
                if matches!(out.get(asked), Some(Output::Move(..))) {
                    self.mode = Mode::Moving;
                }
            }
            Input::Moved(mode) => {
                let broken = std::mem::take(&mut self.broken);
                self.mode = mode.filter(|_| !broken).map_or(Mode::Unknown, Mode::Reached);
            }
            Input::Update(client) => {
                if let Some(before) = self.update.replace(client) {
                    out.push(Output::Refuse(before, "another asks for it".into()));
                }
            }
            Input::Stop(client) => match &self.writer {
                Some(writer) if writer.client != client => out.push(Output::Refuse(client, self.taken(writer))),
                _ => out.push(Output::Stop(client)),
            },
            Input::Gone(client) => {
                self.clients.remove(&client);
                self.give_up(client, out);
                if self.update == Some(client) {
                    self.update = None;
                }
            }
        }
        // A tool that lost its tty in the middle would leave half an image, and lines on their way would stay where they are.
        if let Some(client) = self.update
            && self.tool.is_none()
            && self.mode != Mode::Moving
        {
            self.update = None;
            out.push(Output::Update(client));
        }
    }

    fn taken(&self, writer: &Writer) -> String {
        let process = self.clients.get(&writer.client).copied().unwrap_or_default();
        format!("process {process} writes to the board ({})", writer.name)
    }

    /// Whether the client alone may move the board now; if so, this is said.
    fn ask(&self, client: Client, output: Output, out: &mut Vec<Output>) {
        let why = match (&self.writer, self.tool) {
            (None, _) => "it has not said that it writes".to_string(),
            (Some(writer), _) if writer.client != client => self.taken(writer),
            // A tool's own client plays the resets that the tool cannot.
            (_, Some(_)) if !matches!(output, Output::Move(..)) => "a tool has the tty".to_string(),
            _ if self.mode == Mode::Moving => "lines are being moved".to_string(),
            _ => return out.push(output),
        };
        out.push(Output::Refuse(client, why));
    }

    fn give_up(&mut self, client: Client, out: &mut Vec<Output>) {
        if self.tool == Some(client) {
            self.tool = None;
            // Half an image may be on the board, wherever its lines are.
            match self.mode {
                Mode::Moving => self.broken = true,
                Mode::Unknown | Mode::Reached(_) => self.mode = Mode::Unknown,
            }
            out.push(Output::CloseTool);
        }
        if self.writer.as_ref().is_some_and(|writer| writer.client == client) {
            self.writer = None;
            out.push(Output::DropSent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(desk: &mut Desk, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        desk.handle(0, input, &mut out);
        out
    }

    /// Clients 1 and 2, of which 1 writes.
    fn desk() -> Desk {
        let mut desk = Desk::default();
        give(&mut desk, Input::Came(1, 101));
        give(&mut desk, Input::Came(2, 102));
        assert_eq!(give(&mut desk, Input::Claim(1, "console".into())), [Output::Grant(1)]);
        desk
    }

    #[test]
    fn one_writes_and_the_others_are_told_who() {
        let mut desk = desk();
        let refused = Output::Refuse(2, "process 101 writes to the board (console)".into());
        for input in
            [Input::Claim(2, "job".into()), Input::Send(2), Input::Tool(2), Input::Move(2, None), Input::Stop(2)]
        {
            assert_eq!(give(&mut desk, input), std::slice::from_ref(&refused));
        }
        assert_eq!(give(&mut desk, Input::Send(1)), [Output::Grant(1)]);
        assert_eq!(give(&mut desk, Input::Gone(1)), [Output::DropSent]);
        assert_eq!(give(&mut desk, Input::Claim(2, "job".into())), [Output::Grant(2)]);
    }

    #[test]
    fn a_tool_has_the_tty_until_it_or_its_client_ends() {
        let mut desk = desk();
        assert_eq!(give(&mut desk, Input::Tool(1)), [Output::OpenTool(1)]);
        let busy = Output::Refuse(1, "a tool has the tty".into());
        for input in [Input::Send(1), Input::Tool(1)] {
            assert_eq!(give(&mut desk, input), std::slice::from_ref(&busy));
        }
        // The resets of a tool are played by its client.
        assert_eq!(give(&mut desk, Input::Move(1, None)), [Output::Move(1, None)]);
        give(&mut desk, Input::Moved(None));
        assert!(matches!(&give(&mut desk, Input::ToolEnded(2))[..], [Output::Refuse(2, _)]));
        assert_eq!(give(&mut desk, Input::ToolEnded(1)), [Output::CloseTool, Output::Grant(1)]);
        assert_eq!(give(&mut desk, Input::Tool(1)), [Output::OpenTool(1)]);
        // The tty is closed before anybody else may write.
        assert_eq!(give(&mut desk, Input::Gone(1)), [Output::CloseTool, Output::DropSent]);
    }

    #[test]
    fn a_tool_that_is_broken_off_leaves_a_mode_that_nobody_knows() {
        let run = Some("run".to_string());
        let mut desk = desk();
        give(&mut desk, Input::Move(1, run.clone()));
        give(&mut desk, Input::Moved(run.clone()));
        give(&mut desk, Input::Tool(1));
        assert_eq!(*desk.mode(), Mode::Unknown);
        give(&mut desk, Input::Move(1, run.clone()));
        give(&mut desk, Input::Moved(run.clone()));
        assert_eq!(*desk.mode(), Mode::Reached("run".into()));
        give(&mut desk, Input::Gone(1));
        assert_eq!(*desk.mode(), Mode::Unknown);
        // The way that was begun ends after its client, and says nothing of what is on the board.
        give(&mut desk, Input::Came(2, 102));
        give(&mut desk, Input::Claim(2, "job".into()));
        give(&mut desk, Input::Tool(2));
        give(&mut desk, Input::Move(2, run.clone()));
        give(&mut desk, Input::Gone(2));
        assert_eq!(*desk.mode(), Mode::Moving);
        give(&mut desk, Input::Moved(run.clone()));
        assert_eq!(*desk.mode(), Mode::Unknown);
        // One that ends as it should leaves the mode that was reached last.
        give(&mut desk, Input::Came(3, 103));
        give(&mut desk, Input::Claim(3, "job".into()));
        give(&mut desk, Input::Tool(3));
        give(&mut desk, Input::Move(3, run.clone()));
        give(&mut desk, Input::Moved(run));
        give(&mut desk, Input::ToolEnded(3));
        assert_eq!(*desk.mode(), Mode::Reached("run".into()));
    }

    #[test]
    fn a_mode_is_unknown_until_it_is_reached_and_after_lines_were_moved() {
        let mut desk = desk();
        assert_eq!(*desk.mode(), Mode::Unknown);
        let run = Some("run".to_string());
        assert_eq!(give(&mut desk, Input::Move(1, run.clone())), [Output::Move(1, run.clone())]);
        assert!(matches!(&give(&mut desk, Input::Move(1, None))[..], [Output::Refuse(1, _)]));
        give(&mut desk, Input::Moved(run));
        assert_eq!(*desk.mode(), Mode::Reached("run".into()));
        give(&mut desk, Input::Move(1, None));
        give(&mut desk, Input::Moved(None));
        assert_eq!(*desk.mode(), Mode::Unknown);
        assert_eq!(*Desk::going_on(Mode::Moving).mode(), Mode::Unknown);
        assert_eq!(*Desk::going_on(Mode::Reached("run".into())).mode(), Mode::Reached("run".into()));
    }

    #[test]
    fn an_update_waits_for_tools_and_moves_and_for_nothing_else() {
        let mut idle = desk();
        assert_eq!(give(&mut idle, Input::Update(2)), [Output::Update(2)]);
        let mut busy = desk();
        give(&mut busy, Input::Tool(1));
        assert_eq!(give(&mut busy, Input::Update(2)), []);
        assert_eq!(give(&mut busy, Input::ToolEnded(1)).last(), Some(&Output::Update(2)));
        let mut moving = desk();
        give(&mut moving, Input::Move(1, None));
        assert_eq!(give(&mut moving, Input::Update(2)), []);
        assert_eq!(give(&mut moving, Input::Gone(2)), []);
        assert_eq!(give(&mut moving, Input::Moved(None)), []);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut desk = Desk::default();
        for client in 0..CLIENTS_MAX as Client {
            assert_eq!(give(&mut desk, Input::Came(client, 1)), []);
        }
        let refused = give(&mut desk, Input::Came(99, 1));
        assert!(matches!(&refused[..], [Output::Refuse(99, _), Output::Close(99)]), "{refused:?}");
    }
}
