#!/bin/sh
# This stand-in for VMSnapshotLinux NEVER freezes a file system and never takes a snapshot.
#
# It leaves the files and the log lines that a run of the real extension leaves, so that a reader of them can be
# tested. What a run looks like is decided by lines `key=value` in /etc/azure/backupready-lab-handler, or else in
# `lab-handler` in the extension's own directory (the fabric's switch handler_exit_code writes that one):
#
#   exit=N             `enable` exits N after one line on stderr, and nothing else happens        (default 0)
#   install_exit=N     the same for `install`                                                     (default 0)
#   code=N             code of the final status: 1 file-system consistent, 121 freeze failed, …   (default 1)
#   outcome=finish     the daemon writes the final status                                         (default)
#   outcome=transition the daemon never ends the run: the status stays at code 4
#   outcome=stuck      as transition, and extension.log stops between freeze and thaw
#   outcome=silent     no status file is written at all
#   delay=SECONDS      how long the daemon waits between freeze and thaw                          (default 0)
set -u
cd "$(dirname "$0")/.." || exit 2

name=Microsoft.Azure.RecoveryServices.VMSnapshotLinux
identity=task_identity_FD76C85E-406F-4CFA-8EB0-CF18B123365C
logs=/var/log/azure/$name
command=${1:-}
mkdir -p "$logs" config status

asked() {
    for file in /etc/azure/backupready-lab-handler lab-handler; do
        [ -f "$file" ] || continue
        found=$(sed -n "s/^$1=//p" "$file" | tail -n 1)
        [ -z "$found" ] || { echo "$found"; return; }
    done
    echo "$2"
}

shell_log() { echo "$(date -u)- $*" >>"$logs/shell.log"; }

log() { echo "$(date -u '+%F %T.%6N') [$name-1.0]$*" >>"$logs/extension.log"; }

frozen_log() { echo "$(date -u '+%Y/%m/%d %T.%6N')  Info  $*" >>"$logs/extension.log"; }

public_setting() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "config/$sequence.settings" | head -n 1; }

failure_name() {
    case $1 in
    2) echo error ;;
    16) echo FailedHandlerGuestAgentCertificateNotFound ;;
    76) echo FailedRetryableSnapshotFailedNoNetwork ;;
    85) echo FailedSnapshotLimitReached ;;
    121) echo FailedRetryableFsFreezeFailed ;;
    122) echo FailedRetryableFsFreezeTimeout ;;
    123) echo FailedRetryableUnableToOpenMount ;;
    124) echo FailedRetryableSafeFreezeBinaryNotFound ;;
    402) echo FailedGuestAgentInvokedCommandTooLate ;;
    761) echo FailedSnapshotLimitRestrictedNetwork ;;
    *) echo "Failed$1" ;;
    esac
}

# report <code> <inner status> <message> <consistency> <health state>
report() {
    millis=$(date -u +%s%3N)
    cat >"status/$sequence.status.new" <<EOF
[{"version":"1.0","timestampUTC":"$(date -u +%Y-%m-%dT%H:%M:%SZ)","status":{"name":"$name","operation":"Enable","status":"success","substatus":[{"code":"0","name":"[{\"version\":\"1.0\",\"timestampUTC\":\"\\\\/Date($millis)\\\\/\",\"status\":{\"status\":\"$2\",\"code\":$1,\"vmHealthInfo\":{\"vmHealthState\":$5,\"vmHealthStatusCode\":$1}}}]","status":"success","formattedMessage":null}],"code":$1,"taskId":"$(public_setting taskId)","formattedMessage":{"lang":"en-US","message":"{\"messageStr\": \"$3\", \"snapshotConsistency\": $4, \"jobMessage\": \"\", \"isSizeComputationFailed\": false}"},"storageDetails":{"partitionCount":1,"totalUsedSizeInBytes":2147483648,"isStoragespacePresent":false,"isSizeComputationFailed":false},"commandStartTimeUTCTicks":"$(public_setting commandStartTimeUTCTicks)"}}]
EOF
    mv "status/$sequence.status.new" "status/$sequence.status"
}

keep_past_results() {
    for file in config/*.settings status/*.status; do
        [ -f "$file" ] || continue
        stem=${file%.*}
        [ "${stem##*/}" = "$sequence" ] || mv "$file" "${stem}_${file##*.}"
    done
}

enable() {
    log "starting enable"
    last=$(cat mrseq 2>/dev/null || echo -1)
    if [ "$last" = "$sequence" ]; then
        log "the current seq no $sequence is the last one, $last: already processed"
        exit 0
    fi
    printf %s "$sequence" >mrseq
    keep_past_results
    task=$(public_setting taskId)
    if [ -n "$task" ] && [ "$(cat "$identity" 2>/dev/null)" = "$task" ]; then
        log "the task $task is already processed"
        exit 0
    fi
    printf %s "$task" >"$identity"
    [ "$(asked outcome finish)" = silent ] || report 4 transitioning "Transitioning state in extension" 0 0
    main/handle.sh daemon </dev/null >/dev/null 2>&1 &
}

daemon() {
    outcome=$(asked outcome finish)
    code=$(asked code 1)
    log "starting daemon initially"
    log "****** 1. Starting Freeze Binary"
    log "================== Logs during Freeze Start =============="
    frozen_log "****** 2. Binary Freeze Started"
    frozen_log "  Freezing: /"
    if [ "$code" -ge 121 ] && [ "$code" -le 124 ]; then
        frozen_log "Failed to FIFREEZE: / with error message: Device or resource busy"
        log "================== Logs during Freeze End =============="
        log "freeze failed for some mount"
    else
        frozen_log "****** 3. Binary Freeze Completed"
        frozen_log "****** 4. Freeze Completed (Signal=1 received)"
        [ "$outcome" != stuck ] || exit 0
        sleep "$(asked delay 0)"
        frozen_log "****** 5. Snaphotting (Host) Started"
        frozen_log "****** 6. Snaphotting (Host) Completed"
        frozen_log "****** 7. Sending Thaw Signal to Binary"
        frozen_log "****** 8. Binary Thaw Signal Received"
        frozen_log "  Thawing: /"
        frozen_log "****** 9. Binary Process completed (Signal=2 received)"
        log "================== Logs during Freeze End =============="
    fi
    [ "$outcome" = finish ] || exit 0
    tail="snapshotCreator=backupHostService, hostStatusCodePreSnapshot=200, hostStatusCodeDoSnapshot=200,"
    case $code in
    0 | 1)
        kind="File System Consistent"
        [ "$code" = 1 ] || kind="Application Consistent"
        log "doFreezeSnapshot : run_result - $code run_status - success"
        report "$code" success "Enable Succeeded with $kind Snapshot StatusCode.Success, $tail" 1 0
        log "Enable,success,$code,Enable Succeeded with $kind Snapshot $tail,False"
        ;;
    *)
        failure=$(failure_name "$code")
        log "doFreezeSnapshot : run_result - $code run_status - error"
        log "T:S Enable failed with $failure error"
        report "$code" error "T:S Enable failed with $failure errorEnable failed StatusCode.$failure, $tail" 0 128
        log "Enable,error,$code,T:S Enable failed with $failure error StatusCode.$failure, $tail,True"
        ;;
    esac
}

case $command in
enable) fail=$(asked exit 0) ;;
install) fail=$(asked install_exit 0) ;;
*) fail=0 ;;
esac
if [ "$fail" != 0 ]; then
    shell_log "$fail returned from handle.py"
    echo "the stand-in was told to exit $fail" >&2
    exit "$fail"
fi
sequence=${ConfigSequenceNumber:-0}
case $command in
install) shell_log "Successfully installed" ;;
update | disable | uninstall) shell_log "The command is $command, exiting" ;;
enable | daemon)
    shell_log "Proceeding with $command"
    "$command"
    shell_log "0 returned from handle.py"
    ;;
*)
    echo "cannot run the command '$command'" >&2
    exit 64
    ;;
esac
exit 0
