# Rendered by shtab from the command line of backupready; `make render` does it again.

function _shtab_backupready_scan
  set -g _shtab_backupready_cmdpath ''
  set -g _shtab_backupready_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_backupready_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_backupready_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_backupready_cmdpath"
            set candidate "$_shtab_backupready_cmdpath $t"
          end
          if contains -- $candidate $_shtab_backupready_commands
            set -g _shtab_backupready_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_backupready_npos (math $_shtab_backupready_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_backupready_using
  _shtab_backupready_scan
  test "$_shtab_backupready_cmdpath" = "$argv"
end

set -g _shtab_backupready_commands run check status window explain bundle fix undo pause resume rules config look hands
set -g _shtab_backupready_opts_with_value --at --config --for --key --output --problem --reason --root --runbook --textfile --web.config.file --web.listen-address

complete -c backupready -e
complete -c backupready -f

complete -c backupready -n _shtab_backupready_using -s h -l help -d 'show this help message and exit'
complete -c backupready -n _shtab_backupready_using -l version -d 'show program'"'"'s version number and exit'
complete -c backupready -n _shtab_backupready_using -l config -xka "(__fish_complete_path (commandline -ct))" -d 'instead of /etc/backupready/backupready.conf'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a run -d 'the resident daemon'
complete -c backupready -n '_shtab_backupready_using run' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using run' -l web.listen-address -x -d 'instead of web.listen_address; may be given several times'
complete -c backupready -n '_shtab_backupready_using run' -l web.systemd-socket -d 'serve the sockets that systemd hands over'
complete -c backupready -n '_shtab_backupready_using run' -l web.config.file -xka "(__fish_complete_path (commandline -ct))" -d 'instead of web.config_file: TLS and users'
complete -c backupready -n '_shtab_backupready_using run' -l textfile -x -d 'instead of textfile.path: write the metrics there, for node_exporter'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a check -d 'one look now'
complete -c backupready -n '_shtab_backupready_using check' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using check' -l json -d 'one JSON document'
complete -c backupready -n '_shtab_backupready_using check' -l nagios -d 'one line, as monitoring plugins print it'
complete -c backupready -n '_shtab_backupready_using check' -l root -xka "(__fish_complete_directories)" -d 'judge a captured tree (etc, var, run, proc below DIR)'
complete -c backupready -n '_shtab_backupready_using check' -l at -x -d 'with --root: when it was captured, such as 2026-11-23T00:30:00Z'
complete -c backupready -n '_shtab_backupready_using check' -l demo -d 'judge an emulated guest'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a status -d 'what the running daemon believes; waits for its first look'
complete -c backupready -n '_shtab_backupready_using status' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using status' -l json -d 'one JSON document'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a window -d 'the next backup windows, and where they are from'
complete -c backupready -n '_shtab_backupready_using window' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using window' -l json -d 'one JSON document'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a explain -d 'meaning, diagnosis, documented fix and source of a problem'
complete -c backupready -n '_shtab_backupready_using explain' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using explain; and test $_shtab_backupready_npos -eq 0' -ka "ACCESS_CONTROL_DENIES AGENT_CANNOT_FETCH_GOAL_STATE AGENT_CERTIFICATES_FAIL AGENT_CRASH_LOOPING AGENT_DEFECT_ON_PYTHON AGENT_FIREWALL_BLOCKS_ROOT AGENT_HUNG AGENT_MASKED AGENT_NOT_ENABLED AGENT_NOT_INSTALLED AGENT_NOT_PROVISIONED AGENT_NO_AUTO_RESTART AGENT_OUTDATED AGENT_PID_FILE_STALE AGENT_START_LIMIT AGENT_START_SKIPPED AGENT_STATE_PILES_UP AGENT_STATUS_NOT_UPLOADED AGENT_STOPPED AGENT_SWITCHED_OFF AGENT_SWITCH_OFF_PENDING AGENT_TOOL_MISSING AGENT_UNSUPPORTED AGENT_VERSION_BLACKLISTED AGENT_WORKER_MISSING ALLOW_LIST_GAP AUTO_UPDATE_OFF BACKUP_ONLY_CRASH_CONSISTENT BACKUP_OVERDUE BUSY_WINDOW_FORECAST CLOCK_SKEWED CONFIG_BREAKS_EXTENSION CONFIG_KEY_INEFFECTIVE CONFIG_MISSING CPU_SATURATED DHCP_CLIENT_GONE DHCP_LEASE_EXPIRED DHCP_NO_ENDPOINT DHCP_STATIC_ADDRESS EXTENSIONS_SWITCHED_OFF EXTENSION_FILES_MISSING EXTENSION_LOG_PATH_BLOCKED EXTENSION_NEVER_INSTALLED EXTENSION_NOT_READY EXTENSION_PACKAGE_UNAVAILABLE EXTENSION_REQUEST_IGNORED EXTENSION_SEVERAL_VERSIONS EXTENSION_STATE_FOREIGN EXTENSION_STATE_WRONG EXTENSION_STUCK EXTENSION_TOOL_MISSING EXTENSION_UNINSTALLED EXTENSION_VANISHED FILE_SYSTEM_ERRORS FILE_SYSTEM_LEFT_FROZEN FIX_LIMIT_REACHED FOREIGN_FIREWALL_RULE FREEZE_CONFIG_WRONG FREEZE_LOCK_HELD FREEZE_NOT_CONSISTENT GOAL_STATE_CACHE_STALE HOST_PLUGIN_UNREACHABLE INODES_EXHAUSTED INTERPRETER_INCOMPATIBLE INTERPRETER_MISSING IO_STALLED LAST_BACKUP_FAILED LIB_DIR_MOVED MEMORY_EXHAUSTED METADATA_UNREACHABLE MOUNT_NOEXEC MOUNT_READ_ONLY MOUNT_TWICE MOUNT_UNRESPONSIVE NAME_RESOLUTION_FAILS NOT_AN_AZURE_VM OTHER_EXTENSION_FAILED PACKAGE_LOCK_HELD POLICY_EXCLUDES_EXTENSION PROXY_IN_AGENT_ENVIRONMENT PROXY_NOT_FOR_EXTENSION PROXY_UNREACHABLE REBOOT_PENDING ROUTE_LEAVES_BY_WRONG_DEVICE SCRIPT_CONFIG_INVALID SCRIPT_MISSING SCRIPT_PERMISSIONS SCRIPT_TIMEOUT SPACE_EXHAUSTED STORAGE_UNREACHABLE TEMPORARY_CHANGE_OVERDUE TLS_INTERCEPTED UNSUPPORTED_SYSTEM VERBOSE_LEFT_ON WINDOW_CONTRADICTED WINDOW_UNKNOWN WIRE_SERVER_IMPOSTOR WIRE_SERVER_SLOW WIRE_SERVER_UNREACHABLE" -d problem
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a bundle -d 'what support would ask for, without secrets, in one file'
complete -c backupready -n '_shtab_backupready_using bundle' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using bundle' -l output -xka "(__fish_complete_path (commandline -ct))" -d 'a new file, instead of ./backupready-HOST-DATE.tar.gz'
complete -c backupready -n '_shtab_backupready_using bundle' -l root -xka "(__fish_complete_directories)" -d 'of a captured tree (etc, var, run, proc below DIR)'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a fix -d 'have a documented fix done now, or see which there are'
complete -c backupready -n '_shtab_backupready_using fix' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using fix' -l problem -xka "ACCESS_CONTROL_DENIES AGENT_CANNOT_FETCH_GOAL_STATE AGENT_CERTIFICATES_FAIL AGENT_CRASH_LOOPING AGENT_DEFECT_ON_PYTHON AGENT_FIREWALL_BLOCKS_ROOT AGENT_HUNG AGENT_MASKED AGENT_NOT_ENABLED AGENT_NOT_INSTALLED AGENT_NOT_PROVISIONED AGENT_NO_AUTO_RESTART AGENT_OUTDATED AGENT_PID_FILE_STALE AGENT_START_LIMIT AGENT_START_SKIPPED AGENT_STATE_PILES_UP AGENT_STATUS_NOT_UPLOADED AGENT_STOPPED AGENT_SWITCHED_OFF AGENT_SWITCH_OFF_PENDING AGENT_TOOL_MISSING AGENT_UNSUPPORTED AGENT_VERSION_BLACKLISTED AGENT_WORKER_MISSING ALLOW_LIST_GAP AUTO_UPDATE_OFF BACKUP_ONLY_CRASH_CONSISTENT BACKUP_OVERDUE BUSY_WINDOW_FORECAST CLOCK_SKEWED CONFIG_BREAKS_EXTENSION CONFIG_KEY_INEFFECTIVE CONFIG_MISSING CPU_SATURATED DHCP_CLIENT_GONE DHCP_LEASE_EXPIRED DHCP_NO_ENDPOINT DHCP_STATIC_ADDRESS EXTENSIONS_SWITCHED_OFF EXTENSION_FILES_MISSING EXTENSION_LOG_PATH_BLOCKED EXTENSION_NEVER_INSTALLED EXTENSION_NOT_READY EXTENSION_PACKAGE_UNAVAILABLE EXTENSION_REQUEST_IGNORED EXTENSION_SEVERAL_VERSIONS EXTENSION_STATE_FOREIGN EXTENSION_STATE_WRONG EXTENSION_STUCK EXTENSION_TOOL_MISSING EXTENSION_UNINSTALLED EXTENSION_VANISHED FILE_SYSTEM_ERRORS FILE_SYSTEM_LEFT_FROZEN FIX_LIMIT_REACHED FOREIGN_FIREWALL_RULE FREEZE_CONFIG_WRONG FREEZE_LOCK_HELD FREEZE_NOT_CONSISTENT GOAL_STATE_CACHE_STALE HOST_PLUGIN_UNREACHABLE INODES_EXHAUSTED INTERPRETER_INCOMPATIBLE INTERPRETER_MISSING IO_STALLED LAST_BACKUP_FAILED LIB_DIR_MOVED MEMORY_EXHAUSTED METADATA_UNREACHABLE MOUNT_NOEXEC MOUNT_READ_ONLY MOUNT_TWICE MOUNT_UNRESPONSIVE NAME_RESOLUTION_FAILS NOT_AN_AZURE_VM OTHER_EXTENSION_FAILED PACKAGE_LOCK_HELD POLICY_EXCLUDES_EXTENSION PROXY_IN_AGENT_ENVIRONMENT PROXY_NOT_FOR_EXTENSION PROXY_UNREACHABLE REBOOT_PENDING ROUTE_LEAVES_BY_WRONG_DEVICE SCRIPT_CONFIG_INVALID SCRIPT_MISSING SCRIPT_PERMISSIONS SCRIPT_TIMEOUT SPACE_EXHAUSTED STORAGE_UNREACHABLE TEMPORARY_CHANGE_OVERDUE TLS_INTERCEPTED UNSUPPORTED_SYSTEM VERBOSE_LEFT_ON WINDOW_CONTRADICTED WINDOW_UNKNOWN WIRE_SERVER_IMPOSTOR WIRE_SERVER_SLOW WIRE_SERVER_UNREACHABLE" -d problem
complete -c backupready -n '_shtab_backupready_using fix' -l key -x -d 'which of several of that kind'
complete -c backupready -n '_shtab_backupready_using fix' -l dry-run -d 'print the steps and what they would change'
complete -c backupready -n '_shtab_backupready_using fix' -l enable -d 'let the daemon have fixes done'
complete -c backupready -n '_shtab_backupready_using fix' -l disable -d 'let nobody but a person have fixes done'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a undo -d 'take back what a fix has changed'
complete -c backupready -n '_shtab_backupready_using undo' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using undo' -l temporary -d 'all changes for a time, before that is over'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a pause -d 'have nothing fixed for a time'
complete -c backupready -n '_shtab_backupready_using pause' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using pause' -l for -x -d 'such as 2h; without it, until resume'
complete -c backupready -n '_shtab_backupready_using pause' -l reason -x -d 'why, for others to read'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a resume -d 'end a pause'
complete -c backupready -n '_shtab_backupready_using resume' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a rules -d 'alert rules for Prometheus, with the address of your runbook'
complete -c backupready -n '_shtab_backupready_using rules' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using rules' -l runbook -x -d 'where its pages are; http://{{ $labels.instance }}/runbook for each machine'"'"'s own, where instances are HOST:PORT and scraped by plain HTTP'
complete -c backupready -n '_shtab_backupready_using rules' -l keep-firing -d 'for Prometheus 2.42 and later, by keep_firing_for'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a config -d 'find mistakes in the configuration, or show what is in force'
complete -c backupready -n '_shtab_backupready_using config' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using config; and test $_shtab_backupready_npos -eq 0' -ka "check show" -d action
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a look -d 'what the socket unit of the eyes starts'
complete -c backupready -n '_shtab_backupready_using look' -s h -l help -d 'show this help message and exit'
complete -c backupready -n '_shtab_backupready_using; and test $_shtab_backupready_npos -eq 0' -a hands -d 'what the socket unit of the hands starts, and their timer'
complete -c backupready -n '_shtab_backupready_using hands' -s h -l help -d 'show this help message and exit'
