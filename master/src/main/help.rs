//! Words of a command → what it explains of itself.

/// What `sai-master --help` says.
pub const OVERVIEW: &str = "\
sai-master: a small CI master with an agent built in

  sai-master [OPTIONS]      run; the same as `sai-master run`
  sai-master COMMAND …      every command explains itself: sai-master COMMAND --help

without a master:
  try [PATH]                build a local repository once, here
  lint FILE                 check a .sai.json
  matrix FILE               the jobs of a .sai.json

of a master, running or not:
  status                    whether it runs; its agents, jobs and disk
  agent add|list|revoke|aside|back
                            who may build
  user add|list|revoke      who may do what
  start REPOSITORY BRANCH   build a branch, or a revision of it, whatever was pushed
  cancel|rebuild job|event N
                            end jobs, or run them again
  board aside|back|health AGENT/BOARD
                            give a board no jobs, or jobs again, or find out how well it is
  unit free GRANT           take back what a lost job holds
  rejudge JOB               what other rules make of a board's log
  gc                        delete what retention does not keep
  cert                      its certificate, for whoever is to check it
  export, import            all records as JSON lines, out and into an empty state

options of each of these, to say which master is meant:
  --config FILE   its configuration [$SAI_CONFIG, else /etc/sai/master.json if it is there, else defaults]
  --state DIR     its state directory [what the configuration says, else /var/lib/sai-master for root,
                  else ~/.local/state/sai-master]

  --help, --version

exit status:
  0    done, or every job passed
  1    a job, a check or a request failed; of status: no master is running
  2    a command line or configuration that is not understood
  3    trouble that is not the job's
  4    the ledger could not be written; a restart goes on from what it has
  130  interrupted
";

/// What each command says.
const PAGES: &[(&str, &str)] = &[
    (
        "run",
        "\
sai-master run - serve: pushes in, jobs out to agents, the page for people

usage: sai-master [run] [--config FILE] [--state DIR] [--listen ADDRESS]... [--url URL]

options:
  --config FILE      the configuration [$SAI_CONFIG, else /etc/sai/master.json if it is there, else defaults]
  --state DIR        where everything is kept [what the configuration says, else /var/lib/sai-master for root,
                     else ~/.local/state/sai-master]
  --listen ADDRESS   listened on instead of what the configuration says, as 0.0.0.0:4433 or [::]:4433
  --url URL          how agents and people reach it, as https://HOST:PORT or https://HOST/PATH

signals:
  TERM, INT   end; jobs under way go on, and the next master adopts them
  HUP         read the configuration again: repositories, limits and what the agent inside offers change at once; it
              is said what a restart is needed for

exit status: 2 a configuration that is not understood, 3 it cannot start, 4 the ledger could not be written

example: sai-master --config /etc/sai/master.json
",
    ),
    (
        "try",
        "\
sai-master try - build a local repository once, here

usage: sai-master try [PATH] [OPTIONS]

Builds the last commit of the repository at PATH, or here, by an agent of its own that ends with it, and prints the logs.
Nothing is written into the repository.

options:
  --dirty                what is in the working tree, committed or not
  --configuration NAME   only this configuration; may be given again
  --platform NAME        only jobs for such platforms; may be given again
  --as PLATFORM          let this machine be taken for such a platform, too
  --images DIR           offer the images in this directory; needs root [root: those of this machine's agent]
  --slots N              jobs at once [one for every two cores]
  --artifacts DIR        copy the files that jobs keep to DIR/CONFIGURATION/PLATFORM
  --state DIR            where results are kept [a directory for each repository in ~/.local/state/sai-try]
  --stay                 go on showing the page until INT or TERM

exit status: 0 every job passed, 1 a job failed, 2 a command line that is not understood, 3 nothing could be built or
trouble that is not the job's, 130 interrupted

example: sai-master try --dirty --configuration default
",
    ),
    (
        "lint",
        "\
sai-master lint - check a .sai.json

usage: sai-master lint FILE

Prints errors and warnings as FILE:LINE:COLUMN: what was expected.

exit status: 0 it can be used, 1 it has errors, 2 a command line that is not understood, 3 it cannot be read

example: sai-master lint .sai.json
",
    ),
    (
        "matrix",
        "\
sai-master matrix - the jobs that a .sai.json makes of a push

usage: sai-master matrix FILE [--ref REF] [--changed PATH]...

Prints a line for each job: platform, tab, configuration.

options:
  --ref REF        the branch or tag that is pushed, as main or refs/heads/main [main]
  --changed PATH   a file that the push changes, for the `paths` of configurations [what has any]; may be given again

exit status: 0 done, 1 the file has errors, 2 a command line that is not understood, 3 it cannot be read

example: sai-master matrix .sai.json --ref release-2
",
    ),
    (
        "status",
        "\
sai-master status - whether a master runs, and how it is

usage: sai-master status [--config FILE] [--state DIR]

Prints since when it runs, its page, agents, jobs, repositories and disk.

exit status: 0 it runs, 1 it does not, 2 a command line that is not understood, 3 it cannot be asked

example: sai-master status
",
    ),
    (
        "agent",
        "\
sai-master agent - who may build

usage: sai-master agent add NAME… [--config FILE] [--state DIR]
       sai-master agent revoke|aside|back NAME [--config FILE] [--state DIR]
       sai-master agent list [--config FILE] [--state DIR]
       sai-master agent update NAME|all IMAGE [--downgrade] [--config FILE] [--state DIR]

  add NAME…     let agents in; prints for each the line to join with: sai-agent join LINE
  list          a line for each: name, state, host, platforms, and what there is to know of it, such as why it gets no
                jobs, divided by tabs; states are connected, away, aside (it gets no jobs, or none of the platforms that
                are named), never seen, revoked; that another machine with its identity is locked out is said, too
  revoke NAME   let an agent in no more; its jobs go to others
  aside NAME    give an agent no more jobs
  back NAME     give it jobs again, also one that is paused after trouble
  update NAME IMAGE
                give the card of an agent, or of all of them, the system in the file sai-MODEL.update that cross/image
                made: signed, fetched while jobs go on, and started when those that run have ended; `list` says how far
                it is. Of all, one has it first, and the others follow when that one has come back with it. An agent
                that was not started from a card of Sai's image is updated by whatever installed it.

options:
  --downgrade   of update: let it take the place of a newer one

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood, 3 trouble with the state

example: sai-master agent add shed
",
    ),
    (
        "user",
        "\
sai-master user - who may do what

usage: sai-master user add NAME [ROLE] [ROLE@REPOSITORY]... [DAYSd] [--config FILE] [--state DIR]
       sai-master user revoke NAME [--config FILE] [--state DIR]
       sai-master user list [--config FILE] [--state DIR]

  add NAME      let somebody in; prints the token to sign in with
                ROLE is reader; builder, who starts, cancels and rebuilds, as without one; or admin, who lets
                agents and people in too. ROLE@REPOSITORY is more than that for one repository; with
                that alone, NAME only reads elsewhere. After so many DAYS the token ends.
  list          a name a line, what they are, and until when
  revoke NAME   let somebody in no more

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood, 3 trouble with the state

example: sai-master user add ann builder@hello 90d
",
    ),
    (
        "cancel",
        "\
sai-master cancel - end a job, or all jobs of an event

usage: sai-master cancel job|event N [--config FILE] [--state DIR]

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood

example: sai-master cancel event 12
",
    ),
    (
        "rebuild",
        "\
sai-master rebuild - run an ended job again, or those of an event

usage: sai-master rebuild job|following N [--config FILE] [--state DIR]
       sai-master rebuild event N [failed] [platform=NAME] [configuration=NAME] [--config FILE] [--state DIR]

  job N         the job, and what was skipped because of it
  following N   the job, and all that need it
  event N       all jobs of the event that have ended; with `failed` those that went wrong in any way, and those of one
                platform or configuration where one is named; what passed before and is not named stays as it is

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood

example: sai-master rebuild job 120
",
    ),
    (
        "start",
        "\
sai-master start - build a branch, or a revision of it, whatever was pushed

usage: sai-master start REPOSITORY BRANCH [revision=REVISION] [configuration=NAME]... [platform=NAME]... [board=TYPE]...
                        [env=NAME=VALUE]... [--config FILE] [--state DIR]

  REPOSITORY           its name in the master's configuration
  BRANCH               a branch, or a whole ref, as refs/tags/v1
  revision=REVISION    all digits of a revision [the newest of the branch]
  configuration=NAME   only this one and what it needs; may be given again. `branches` of the .sai.json hold here too, `paths` do not
  platform=NAME        only on such a platform; may be given again
  board=TYPE           only what is done at a board of this type, and what that needs; may be given again
  env=NAME=VALUE       a variable of the steps, stronger than the .sai.json's; everybody who may read sees it with the event

Prints the number of the event.

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood, 3 the master cannot be asked

example: sai-master start hello main configuration=release env=VERSION=1.2
",
    ),
    (
        "rejudge",
        "\
sai-master rejudge - judge the log of a board once more, without a board

usage: sai-master rejudge JOB [--saifile FILE] [--config FILE] [--state DIR]

  JOB   a job's number, for its last attempt, or JOB-ATTEMPT

Prints lines of words divided by tabs: verdict, fault and cause, or `unknown` where other rules would have sent something else, since
what would have come of that no log can tell; what is on record; whether the log is incomplete, and what of it was lost; test
cases, and notes. Time reaches the judge by the log alone, so that the same rules give the same verdict.

options:
  --saifile FILE   take the job's `board` from this file [the event's own]

exit status: 0 the verdict is passed, 1 it is another of the board's, 2 a command line that is not understood, 3 it cannot be known or
judged, or is infra

example: sai-master rejudge 12 --saifile .sai.json
",
    ),
    (
        "board",
        "\
sai-master board - a board of an agent: give it jobs or none, find out how well it is

usage: sai-master board aside|back|health AGENT/BOARD [--config FILE] [--state DIR]

  aside AGENT/BOARD   no job gets it any more but one that finds out how well it is; a job that is there ends first
  back AGENT/BOARD    it gets jobs again, whatever was held against it
  health AGENT/BOARD  a job flashes what is known to be good and waits for what that prints, as \"health\" of the board says in
                      its agent's file of boards; a board that does not pass gets no other job until it does

The same is looked at after trouble at the board, after it was not to be used, and as often as that file says.

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood

example: sai-master board health shed/uno-1
",
    ),
    (
        "unit",
        "\
sai-master unit - take back the units of a job that was given up

usage: sai-master unit free GRANT [--config FILE] [--state DIR]

Units that an attempt holds return with its verdict. While its agent is away they return when it comes back, or after the
attempt's own time and 15 minutes more; `sai-master status` tells who holds them, and the numbers of their grants. Free only
what is known not to run any more.

exit status: 0 done, 1 it cannot be done, 2 a command line that is not understood

example: sai-master unit free 7
",
    ),
    (
        "gc",
        "\
sai-master gc - delete what retention does not keep

usage: sai-master gc [--config FILE] [--state DIR]

Does at once what a running master does every hour, by `keep` of the configuration. What only a clock that may have leapt says is
too old stays for some days, and is told.

exit status: 0 done, 1 not all could be deleted, 2 a command line that is not understood, 3 trouble with the state

example: sai-master gc
",
    ),
    (
        "cert",
        "\
sai-master cert - print the certificate that the master shows, as PEM, and never its key

usage: sai-master cert [--config FILE] [--state DIR]

What it prints is for those who are to trust it: curl --cacert, the hook's sai.cacert. A running master also gives it to
everybody at /cert.pem, but whoever fetches it there must know from elsewhere that it is the right one.

options:
  --config FILE   the configuration [$SAI_CONFIG, else /etc/sai/master.json if it is there, else defaults]
  --state DIR     where everything is kept [what the configuration says, else /var/lib/sai-master for root,
                  else ~/.local/state/sai-master]

exit status: 0 printed, 2 a command line or configuration that is not understood, 3 there is none that can be read

example: sai-master cert > /etc/sai/ca.pem
",
    ),
    (
        "export",
        "\
sai-master export - all records of a master that is stopped, as JSON lines

usage: sai-master export [--salvage] [--config FILE] [--state DIR] > FILE

The last line counts the records; `import` takes nothing without it. Nothing is changed by it, so it can be tried on damage:

  --salvage  of a ledger that has lost records what can still be read; what
             cannot is said

exit status: 0 done, 2 a command line that is not understood, 3 it cannot be read or written, or records are lost

example: sai-master export > records.jsonl
",
    ),
    (
        "import",
        "\
sai-master import - records of an export, into a state that is empty

usage: sai-master import [--config FILE] [--state DIR] < FILE

exit status: 0 done, 1 this is no export, or the state is not empty, 2 a command line that is not understood

example: sai-master import --state /var/lib/sai-elsewhere < records.jsonl
",
    ),
];

/// What the command that begins with this word says of itself; none when there is no such command.
pub fn page(command: &str) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == command).map(|(_, text)| *text)
}
