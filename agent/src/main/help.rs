//! What `sai-agent` explains of itself.

/// What `sai-agent --help` says.
pub const OVERVIEW: &str = "\
sai-agent - Sai's builder: dials its master, runs jobs, streams what they print

usage:
  sai-agent [--config FILE] [--state DIR]
      Serve, as configured by FILE or by DIR/agent.json, which `join` wrote.
  sai-agent join LINE
      Join a master, and serve; see sai-agent join --help.
  sai-agent device TYPE -- COMMAND …
      In a build's step: run COMMAND with a board of this machine; see sai-agent device --help.
  sai-agent selftest …
      Try the hardware of this machine, and print a report to attach to a bug; see sai-agent selftest --help.
  sai-agent image COMMAND …
      Make, list, change and remove the images that jobs in containers run in; see sai-agent image --help.
  sai-agent --help | --version

options:
  --config FILE        JSON with # comments; keys: master, token, others, pin, proxy, no_proxy, name, platforms,
                       slots, parallel, state, depth, filter, user, env, keep_free_mib, boards, boards_run; about
                       containers see configs/agent-nspawn.json, about boards configs/boards.json
                       [$SAI_AGENT_CONFIG, else agent.json in the state directory, else /etc/sai/agent.json]
  --state DIR          where jobs, mirrors and the identity are kept
                       [/var/lib/sai-agent for root, else ~/.local/state/sai-agent]

environment:
  HTTPS_PROXY, NO_PROXY  a proxy on the way to the master, http://[USER:PASSWORD@]HOST:PORT, and the hosts that are
                         reached without it, divided by commas; `join` saves them as `proxy` and `no_proxy`

signals:
  TERM, INT  end; jobs under way go on, and the next sai-agent with the same state adopts them
  HUP        read platforms, slots, images and boards again

exit status:
  0  ended as asked
  1  trouble on this machine or on the way to the master
  2  a command line or configuration that is not understood
  3  the master refuses this agent: its token was revoked or belongs to another machine; or it is another master

example: sai-agent --state /srv/sai-agent
";

/// What `sai-agent join --help` says.
pub const JOIN: &str = "\
sai-agent join - join a master with the line that `sai-master agent add` printed on it, save that, and serve

usage: sai-agent join LINE [--name NAME] [--platform PLATFORM]... [--slots N] [--state DIR] [--only-save]

With - for LINE it is read from standard input and stays out of the shell's history.

options:
  --name NAME          what to be called instead of the host's name
  --platform PLATFORM  a platform to offer instead of the host's own, such as linux-debian-12/x86_64/gcc
  --slots N            jobs at once [one for every two cores]
  --state DIR          where jobs, mirrors and the identity are kept
                       [/var/lib/sai-agent for root, else ~/.local/state/sai-agent]
  --only-save          join, but do not serve yet

exit status:
  0  ended as asked
  1  trouble on this machine or on the way to the master
  2  a command line that is not understood
  3  the master refuses this agent: its token was revoked or belongs to another machine; or it is another master

example: sai-agent join - --only-save < line
";
