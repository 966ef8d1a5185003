#!/usr/bin/env bash
# A pipeline's step: compress MODEL on INTRAFUSION_SERVER, and fail when a gate is missed.
#
# Reads MODEL, OUTPUT and, if set, CALIBRATION, EVALUATION, OPTIONS and LABEL. Run again for the
# same LABEL and model it finds the same job instead of making a second one. Exit codes are those
# of `intrafusion submit`: 3 for a missed gate, whose network and report are there all the same.
set -euo pipefail

arguments=("$MODEL" --output "$OUTPUT" --report "${OUTPUT%.*}.report.json")
[ -z "${CALIBRATION:-}" ] || arguments+=(--calibration "$CALIBRATION")
[ -z "${EVALUATION:-}" ] || arguments+=(--evaluation "$EVALUATION")
if [ -n "${LABEL:-}" ]; then
    key=$(printf '%s' "$LABEL ${OPTIONS:-}" | cat - "$MODEL" | sha256sum | cut -d' ' -f1)
    arguments+=(--metadata "pipeline=$LABEL" --idempotency-key "$key")
fi
if [ -n "${OPTIONS:-}" ]; then
    read -ra options <<<"$OPTIONS"
    arguments+=("${options[@]}")
fi
[ -z "${GITHUB_OUTPUT:-}" ] || echo "report=${OUTPUT%.*}.report.json" >>"$GITHUB_OUTPUT"

intrafusion submit "${arguments[@]}"
