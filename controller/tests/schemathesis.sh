#!/bin/sh
# Tries a gateway against the document that it serves, with a tester that knows nothing but
# the document: requests that are allowed and ones that are not, sequences of them, and
# whether each answer is one that the document has.
#
#   cargo run -p refunction-controller --example gateway -- 127.0.0.1:8080 &
#   controller/tests/schemathesis.sh http://127.0.0.1:8080 [TOKEN]
#
# Needs `pip install schemathesis` (4). SCHEMATHESIS names the program, EXAMPLES how many
# requests are drawn for each operation, SEED what they are drawn from.
set -eu
url=${1:?the address of the gateway}
token=${2:-}
set --
if [ -n "$token" ]; then
    set -- --header "Authorization: Bearer $token"
fi
exec "${SCHEMATHESIS:-schemathesis}" --config-file "$(dirname "$0")/schemathesis.toml" \
    run "$url/openapi.json" --checks all \
    --max-examples "${EXAMPLES:-50}" ${SEED:+--seed "$SEED"} \
    --request-timeout 90 --max-response-time 80 --no-color "$@"
