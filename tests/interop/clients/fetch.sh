#!/bin/sh
# curl as a client: makes the calls of its input, `METHOD URL BODY-FILE` on a line, one curl for each. Prints for each
# status, response headers and body, the latter two in base64, or ERROR and why. All fetch clients do the same.
place=$(mktemp -d)
while read -r method url body; do
    set -- -sS --globoff --path-as-is --suppress-connect-headers -D "$place/head" -o "$place/body" -w '%{http_code}'
    [ "$method" = HEAD ] && set -- "$@" --head || set -- "$@" -X "$method"
    [ "$body" = - ] || set -- "$@" -H 'Content-Type: application/octet-stream' --data-binary "@$body"
    : >"$place/body"
    if status=$(curl "$@" "$url" 2>"$place/error"); then
        [ "$method" = HEAD ] && : >"$place/body"
        printf '%s\t%s\t%s\n' "$status" "$(base64 -w0 "$place/head")" "$(base64 -w0 "$place/body")"
    else
        printf 'ERROR\t%s\n' "$(tr '\n' ' ' <"$place/error")"
    fi
done
rm -r "$place"
