#!/bin/sh
# Makes a self-signed certificate and key for a Sai master: P-521 with explicit curve parameters, valid 30 days.
set -eu

usage() {
    cat <<'END'
usage: gen-selfsigned-certs.sh [--force] [--days N] [--name NAME] [DIR [HOST]...]

Writes DIR/sai-master-key.pem (readable by its owner alone) and DIR/sai-master.pem.
DIR is /usr/local/share/sai unless given, and is made when absent. The certificate is for every HOST, names and addresses
under which the master is reached; for this host's name and localhost when none is given.

  --force      replace an existing key and certificate: agents that pinned it must join again
  --days N     days of validity, 30 unless given
  --name NAME  common name of the certificate, the first HOST unless given; the certificate is for it as well

Then tell the master where they are (certificate and key in its configuration). A running master picks up
replaced files by itself.
END
}

fail() {
    echo "gen-selfsigned-certs.sh: $1" >&2
    exit "${2:-1}"
}

directory=
force=no
days=30
name=
hosts=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --force) force=yes ;;
    --days | --name)
        [ $# -ge 2 ] || fail "$1 wants a value; see --help" 2
        if [ "$1" = --days ]; then days=$2; else name=$2; fi
        shift
        ;;
    -*) fail "unknown option $1; see --help" 2 ;;
    *)
        if [ -z "$directory" ]; then
            directory=$1
        else
            # In a list of names, commas separate them.
            case $1 in
            '' | *[!A-Za-z0-9._:*-]*) fail "a HOST is a name or an address, not '$1'" 2 ;;
            esac
            hosts="$hosts $1"
        fi
        ;;
    esac
    shift
done
directory=${directory:-/usr/local/share/sai}
case $days in
'' | *[!0-9]*) fail "--days wants a number, not '$days'" 2 ;;
esac
if [ -z "$hosts" ]; then
    hosts=" $(uname -n) localhost 127.0.0.1 ::1"
fi
if [ -z "$name" ]; then
    name=${hosts# }
    name=${name%% *}
fi
# In a subject, slashes and plus signs separate fields.
case $name in
'' | *[!A-Za-z0-9._:*-]*) fail "--name wants a host name or address, not '$name'" 2 ;;
esac
# Each once: an address is digits and dots alone, or has colons.
alternatives=
for host in "$name" $hosts; do
    case $host in
    *:*) host=IP:$host ;;
    *[!0-9.]*) host=DNS:$host ;;
    *) host=IP:$host ;;
    esac
    case ,$alternatives, in
    *,"$host",*) ;;
    *) alternatives=${alternatives:+$alternatives,}$host ;;
    esac
done
command -v openssl >/dev/null || fail "openssl is not installed"

key=$directory/sai-master-key.pem
certificate=$directory/sai-master.pem
if [ "$force" = no ]; then
    for file in "$key" "$certificate"; do
        if [ -e "$file" ]; then
            fail "$file exists; --force replaces it, and then agents that pinned it must join again"
        fi
    done
fi

umask 077
if [ ! -d "$directory" ]; then
    # The directory itself holds nothing secret: the key is protected by its own mode.
    mkdir -p "$directory"
    chmod 755 "$directory"
fi
# Both are made beside their final names and moved when both are whole, so a running master never reads half a file.
work=$(mktemp -d "$directory/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

openssl ecparam -name secp521r1 -genkey -param_enc explicit -out "$work/key.pem"
openssl req -new -x509 -sha256 -days "$days" -key "$work/key.pem" -subj "/CN=$name" \
    -addext "subjectAltName=$alternatives" -out "$work/cert.pem"
chmod 644 "$work/cert.pem"
mv -f "$work/key.pem" "$key"
mv -f "$work/cert.pem" "$certificate"

echo "key:         $key"
echo "certificate: $certificate"
echo "for:         $(echo "$alternatives" | sed 's/[A-Z]*://; s/,[A-Z]*:/ /g')"
openssl x509 -in "$certificate" -noout -fingerprint -sha256
