#!/bin/sh
# Stands for CNI plugins in unit tests: notes down how it was called, beside the
# namespace, and does what its name says.
place=$(dirname "$CNI_NETNS")
name=$(basename "$0")
printf '%s %s %s %s %s\n' "$CNI_COMMAND" "$name" "$CNI_CONTAINERID" "$CNI_IFNAME" "$(cat)" >>"$place/calls"
case $CNI_COMMAND-$name in
ADD-full)
    echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no room", "details": "all are taken"}'
    exit 1
    ;;
ADD-broken)
    echo 'a bug' >&2
    exit 3
    ;;
ADD-mute) exit 0 ;;
ADD-slow)
    echo $$ >"$place/group"
    sleep 1000
    ;;
DEL-stubborn)
    if [ ! -e "$place/relent" ]; then
        echo '{"code": 7, "msg": "not yet"}'
        exit 1
    fi
    ;;
esac
if [ "$CNI_COMMAND" = ADD ]; then
    echo "{\"ips\": [{\"address\": \"10.9.0.2/24\"}], \"by\": \"$name\"}"
fi
