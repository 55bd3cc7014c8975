//! What `--help` prints.

pub const HELP: &str = "\
Looks after the boards that hang off this machine, as a boards.json describes them.

usage: sai-buddy FILE check [BOARD] [--json]
       sai-buddy FILE list [--json]
       sai-buddy FILE console BOARD [CONSOLE] [--json]
       sai-buddy FILE record BOARD [CONSOLE] [--kept] [--for TIME] [--json]
       sai-buddy FILE tool BOARD [CONSOLE] [--limit TIME] -- COMMAND [ARGUMENT]...
       sai-buddy FILE flash BOARD [TARGET=]IMAGE... [--unverified] [--json]
       sai-buddy FILE test BOARD SAIFILE CONFIGURATION [--record LOG | --again LOG] [--json]
       sai-buddy FILE play BOARD SEQUENCE [--json]
       sai-buddy FILE mode BOARD MODE [--json]
       sai-buddy FILE power BOARD on|off|cycle [--json]
       sai-buddy FILE status|update|stop BOARD [--json]
       sai-buddy FILE owner BOARD
       sai-buddy guard [--update]

  check    say what is wrong with FILE, by line and column; with BOARD, go through its wiring with you: which USB device leaves
           and which console goes quiet as cables are pulled and lines moved. Writes FILE where it says otherwise, or begins it; with --json a program answers, a line
           for each \"ask\"
  list     name its boards and rigs: type, consoles, how each is flashed and powered, its modes and sequences; which ttys are
           there, who owns and who uses each
  console  type to a console and see what it says; Ctrl-] leaves, the recording goes on
  record   print what consoles say; with --kept, what they said before too, as far as it was kept
  tool     run COMMAND, which finds a tty for the console where it says {tty}: avrdude, stm32flash, esptool, ...
  flash    bring images to their places, the first one's where no TARGET is said, and see that they are there; boards whose loader
           is a USB device (\"dfu\", \"fastboot\") by a build with that feature
  test     flash and judge the board as CONFIGURATION of SAIFILE says under \"board\", images beside SAIFILE; prints TAP
  play     move lines and power as a sequence of the board says; what mode it is in is not known then
  mode     bring the board into MODE, by way of those that it leads through
  power    switch the board on or off, or off and on
  status   say which process owns the board, who writes to it, and what its consoles have had
  update   let the board's owner go on as the program that lies at its place now, by what FILE says now, without a byte missing
  stop     let the board's owner end, and its ttys be closed
  owner    own BOARD: open its ttys and record them. The commands above start one where there is none
  guard    hold what owners hold, so that no line moves when one dies; once a machine

  --run DIR      where sockets lie (/run/sai-buddy, or below $XDG_RUNTIME_DIR)
  --for TIME     end after this time, such as 10s
  --limit TIME   kill COMMAND after this time (5m)
  --unverified   allow a board that does not tell whether an image is there
  --kept         begin with what the owner has kept
  --record LOG   keep all that happens at the board in LOG
  --again LOG    judge LOG, which was kept so, and leave the board alone
  --json         for programs: one object a line. Colours are for terminals alone, and for none where NO_COLOR is set
  --help         this text
  --version      the version

Exit status: 0 when all is well, 1 when something is wrong, 2 when the command line is. `record`: 3 when bytes are missing. `tool`:
that of COMMAND, 124 when its time was over. `test`: 1 when the board does not pass, 3 when that is the fault of the bench, or ours.
";

/// The command line was wrong.
pub const USAGE: u8 = 2;
