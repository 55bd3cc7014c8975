//! What `sai` explains of itself.

/// What `sai --help` says.
pub const OVERVIEW: &str = "\
sai - Sai for people at laptops: what runs, its logs and its files

usage:
  sai login URL         keep a master's address, what it is known by and a token of yours, once they are proven
  sai logout            forget them
  sai status            what runs and what waits, of whom, and the agents
  sai log [-f] JOB      print a job's log; with -f live, until it ends
  sai get JOB [FILE]... fetch the files that a job kept
  sai cancel JOB        end a job
  sai rebuild JOB       run a job again
  sai board WORD        have a board for a while, and use it
  sai run [CONFIGURATION]...
                        have built what is committed here and nobody has pushed
  sai COMMAND --help    more of each
  sai --help | --version

environment:
  XDG_CONFIG_HOME        where sai/login.json is kept [~/.config]
  HTTPS_PROXY, NO_PROXY  a proxy on the way to the master, http://[USER:PASSWORD@]HOST:PORT, and the hosts that are
                         reached without it, divided by commas
  NO_COLOR               no colours

exit status:
  0  done, or the job passed
  1  the job failed, or the master says no to what was asked
  2  a command line or login that is not understood
  3  trouble that is not the job's: on this machine, on the way to the master or at it
";

/// Of `login`.
pub const LOGIN: &str = "\
sai login - keep a master's address, what it is known by and a token of yours, once they are proven

usage: sai login URL [--fingerprint DIGITS] [--json]

The token, which `sai-master user add NAME` printed, is read from standard input, or asked for at a terminal. It is shown to
nobody before their certificate is believed: one that the system's authorities vouch for, or the one with this fingerprint.
What a login has pinned is believed until `sai logout`.

options:
  --fingerprint DIGITS  the SHA-256 of the master's certificate, as `sai-master status` tells it on the master
  --json                print what was proven for programs

exit status: 0 done, 2 not understood, 3 nobody is there, it is somebody else, or the token is nobody's; nothing is saved then

example: sai login https://ci.example.org:4433 < token
";

/// Of `logout`.
pub const LOGOUT: &str = "\
sai logout - forget the master and the token

usage: sai logout

The token opens the master until `sai-master user revoke NAME`.
";

/// Of `status`.
pub const STATUS: &str = "\
sai status - what runs and what waits, of whom, and the agents

usage: sai status [--json]

A line for each job that has not ended: its state, number, repository and branch, configuration, platform, whose it is, and the
agent that has it or why it waits; then the agents.
";

/// Of `log`.
pub const LOG: &str = "\
sai log - print a job's log

usage: sai log [-f] JOB [--attempt N] [--raw | --json]

With -f it goes on until the job has ended, through its next attempts, and over breaks of the link, without a byte twice or
missing. The last line is the verdict, and so is the exit status.

options:
  -f, --follow  go on until the job has ended
  --attempt N   that attempt, and no other
  --raw         the bytes that were printed, and nothing else
  --json        an object for each thing that happened, one a line

exit status: 0 the job passed or has not ended, 1 it failed, 3 it ended otherwise, or there is trouble that is not the job's
";

/// Of `get`.
pub const GET: &str = "\
sai get - fetch the files that a job kept

usage: sai get JOB [FILE]... [--to DIR] [--force] [--json]

FILE is a path as the job has it, or a glob such as 'out/**'; all files where there is none. Each is compared with its digest
before it has its name, and what was cut off goes on where it was. No name leads out of DIR.

options:
  --to DIR  where they go [job-JOB]
  --force   replace files that differ
  --json    an object for each file, one a line

exit status: 0 all are there, 1 there is none of that name, or another is in its place, 3 trouble that is not the job's
";

/// Of `cancel`.
pub const CANCEL: &str = "\
sai cancel - end a job that waits or runs

usage: sai cancel JOB [--attempt N] [--json]

With --attempt only if that one is under way. It takes a builder.
";

/// Of `rebuild`.
pub const REBUILD: &str = "\
sai rebuild - run a job again that has ended

usage: sai rebuild JOB [--following] [--json]

With --following all that needs it runs again, too. It takes a builder.
";

/// Of `board`.
pub const BOARD: &str = "\
sai board - have a board for a while, and use it

usage:
  sai board list [--json]                 the boards that there are, who has them and until when
  sai board lease BOARD [--minutes N]     ask for one, wait until it is there, and print which job has it
  sai board console BOARD [--console C]   a terminal at it; Ctrl-] leaves, and the board stays yours
  sai board share BOARD PERSON            let somebody hear what happens at it; unshare ends that
  sai board join BOARD [--console C]      hear the console of a board that you have or that is shared with you
  sai board record BOARD [--console C]    the same from the beginning of the lease on, as its bytes are
  sai board send BOARD TEXT [--console C] send bytes; \\n, \\r, \\t, \\e and \\xHH are what they are in C
  sai board expect BOARD PATTERN [--within SECONDS] [--console C]
                                          wait until it says this, and print what it was
  sai board play BOARD SEQUENCE           move its lines, as reset
  sai board mode BOARD MODE               bring it into a mode
  sai board power BOARD on|off|cycle      switch its supply
  sai board flash BOARD [TARGET=]IMAGE... [--unverified]
                                          get images onto it, as its bench says; onto one that does not tell
                                          whether they are there only if that is allowed
  sai board release BOARD                 give it back, or wait for it no longer

BOARD is TYPE, TYPE+TAG... or AGENT/BOARD. A board that others have is waited for, in the one queue of jobs and people. It is
kept for so many minutes after it was last used [30], no longer than a working day, and is not prolonged by use while somebody
waits. All that happens at it is in the log of its job, for you, whom you share it with, and admins; of what is typed only how
much that was. Only you type. What is said while the link is down is said when it is up again, once; you are told of what is older
than five seconds by then instead.

exit status: 0 done, 1 the board did not do it, there is none, or of a record something is missing, 2 not understood, 3 trouble that is not the board's;
of flash: 1 refused, and the board is as it was, 4 failed, and nobody knows what is on it; whose fault it is stands in brackets
";

/// Of `run`.
pub const RUN: &str = "\
sai run - have built what is committed here and nobody has pushed, and follow it to its end

usage: sai run [CONFIGURATION]... [--board TYPE] [--dirty] [--repository NAME] [--artifacts DIR] [--json]

The last commit travels to the master as a git bundle, without what was pushed before, and is built as an event of yours; nothing of
your index, branches and files is touched. What is not committed is an error, unless it is to be built, too. It takes the right `run`
(sai-master user add NAME builder run). The jobs go on when this ends before they do.

options:
  --board TYPE       only what is done at boards of this type, and the builds that it needs
  --dirty            build what is there, committed or not, but for ignored files
  --repository NAME  what the master calls this repository [the one with the URL of a remote]
  --artifacts DIR    fetch the files that jobs keep into DIR/job-JOB
  --json             logs as objects, one a line

exit status: 0 all passed, 1 a job failed, or it cannot be built, 3 trouble that is not the jobs'
";
