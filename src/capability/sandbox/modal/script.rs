//! What is said to the shell of a sandbox. Modal starts commands, counts their bytes and tells their end; what it has no
//! call for (signals, whole trees of processes, files, why something does not start) is done by these lines inside.

/// Starts a command: `KEY WORKDIR STDIN GIVEN TAKEN COMMAND...`. The first line on standard error is for the host, and says
/// whether the command is on its way, with its number, or why not. GIVEN is `VARIABLE=KEY`s of secrets that came under
/// their keys, TAKEN all such keys; a variable and a key of another secret may have one name. What is the script's own has
/// names that a command's variables do not have.
pub(super) const START: &str = r#"
say() { printf 'harvest %s %s\n' "$harvest_key" "$1" >&2; }
harvest_key=$1 harvest_workdir=$2 harvest_stdin=$3 harvest_given=$4 harvest_taken=$5
shift 5
for harvest_pair in $harvest_given; do
  eval "[ -n \"\${${harvest_pair#*=}+x}\" ]" || { say "no-secret ${harvest_pair#*=}"; exit 126; }
  eval "harvest_given_${harvest_pair%%=*}=\$${harvest_pair#*=}"
done
for harvest_name in $harvest_taken; do unset "$harvest_name"; done
for harvest_pair in $harvest_given; do
  harvest_name=${harvest_pair%%=*}
  eval "$harvest_name=\$harvest_given_$harvest_name; export $harvest_name; unset harvest_given_$harvest_name"
done
if [ -n "$harvest_workdir" ] && ! cd -- "$harvest_workdir" 2>/dev/null; then say no-workdir; exit 126; fi
case $1 in
*/*) if [ ! -e "$1" ]; then say no-program; exit 127; fi
     if [ ! -f "$1" ] || [ ! -x "$1" ]; then say no-right; exit 126; fi ;;
*) if ! command -v -- "$1" >/dev/null 2>&1; then say no-program; exit 127; fi ;;
esac
HARVEST_EXEC=$harvest_key
export HARVEST_EXEC
say "started $$"
unset -f say
unset harvest_key harvest_workdir harvest_given harvest_taken harvest_pair harvest_name
if [ "$harvest_stdin" = no ]; then exec "$@" </dev/null; fi
exec "$@"
"#;

/// Kills every process of a command, until none is left: `KEY`. All of them carry it: variables of the environment are
/// inherited, by daemons too.
pub(super) const KILL: &str = r#"
while :; do
  found=
  for environ in $(grep -slF -- "HARVEST_EXEC=$1" /proc/[0-9]*/environ); do
    process=${environ#/proc/}
    if kill -KILL "${process%/environ}" 2>/dev/null; then found=yes; fi
  done
  [ -n "$found" ] || exit 0
done
"#;

/// Kills what an earlier host has left running.
pub(super) const KILL_ALL: &str = r#"
while :; do
  found=
  for environ in $(grep -slF -- "HARVEST_EXEC=" /proc/[0-9]*/environ); do
    process=${environ#/proc/}
    if kill -KILL "${process%/environ}" 2>/dev/null; then found=yes; fi
  done
  [ -n "$found" ] || exit 0
done
"#;

/// Sends a signal: `NUMBER PROCESS`. One that has ended needs none.
pub(super) const SIGNAL: &str = r#"kill "-$1" "$2" 2>/dev/null; exit 0"#;

/// Makes directories: `PATH...`.
pub(super) const MAKE_DIRECTORIES: &str = r#"mkdir -p -- "$@""#;

/// Writes a file whole from standard input: `PATH MODE`. A link is followed, as it is by programs inside.
pub(super) const WRITE: &str = r#"
if [ -e "$1" ] && [ ! -f "$1" ]; then exit 81; fi
case $1 in */*) mkdir -p -- "${1%/*}/" || exit 1 ;; esac
cat > "$1" && chmod "$2" "$1"
"#;

/// Reads a file: `PATH LIMIT`, at most one byte more than the limit.
pub(super) const READ: &str = r#"
if [ ! -e "$1" ]; then exit 80; fi
if [ ! -f "$1" ]; then exit 81; fi
head -c "$2" -- "$1"
"#;

/// Exit codes of [`READ`] and [`WRITE`].
pub(super) const MISSING: i32 = 80;
pub(super) const NO_FILE: i32 = 81;
