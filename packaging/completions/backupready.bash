# Rendered by shtab from the command line of backupready; `make render` does it again.

_shtab_backupready_subparsers=(run check status window explain bundle fix undo pause resume rules config look hands)

_shtab_backupready_run_option_strings=(-h --help --web.listen-address --web.systemd-socket --web.config.file --textfile)
_shtab_backupready_check_option_strings=(-h --help --json --nagios --root --at --demo)
_shtab_backupready_status_option_strings=(-h --help --json)
_shtab_backupready_window_option_strings=(-h --help --json)
_shtab_backupready_explain_option_strings=(-h --help)
_shtab_backupready_bundle_option_strings=(-h --help --output --root)
_shtab_backupready_fix_option_strings=(-h --help --problem --key --dry-run --enable --disable)
_shtab_backupready_undo_option_strings=(-h --help --temporary)
_shtab_backupready_pause_option_strings=(-h --help --for --reason)
_shtab_backupready_resume_option_strings=(-h --help)
_shtab_backupready_rules_option_strings=(-h --help --runbook --keep-firing)
_shtab_backupready_config_option_strings=(-h --help)
_shtab_backupready_look_option_strings=(-h --help)
_shtab_backupready_hands_option_strings=(-h --help)
_shtab_backupready_option_strings=(-h --help --version --config)

_shtab_backupready_run___web_config_file_COMPGEN=_shtab_compgen_files
_shtab_backupready_check___root_COMPGEN=_shtab_compgen_dirs
_shtab_backupready_bundle___output_COMPGEN=_shtab_compgen_files
_shtab_backupready_bundle___root_COMPGEN=_shtab_compgen_dirs
_shtab_backupready___config_COMPGEN=_shtab_compgen_files

_shtab_backupready_explain_pos_0_choices=(ACCESS_CONTROL_DENIES AGENT_CANNOT_FETCH_GOAL_STATE AGENT_CERTIFICATES_FAIL AGENT_CRASH_LOOPING AGENT_DEFECT_ON_PYTHON AGENT_FIREWALL_BLOCKS_ROOT AGENT_HUNG AGENT_MASKED AGENT_NOT_ENABLED AGENT_NOT_INSTALLED AGENT_NOT_PROVISIONED AGENT_NO_AUTO_RESTART AGENT_OUTDATED AGENT_PID_FILE_STALE AGENT_START_LIMIT AGENT_START_SKIPPED AGENT_STATE_PILES_UP AGENT_STATUS_NOT_UPLOADED AGENT_STOPPED AGENT_SWITCHED_OFF AGENT_SWITCH_OFF_PENDING AGENT_TOOL_MISSING AGENT_UNSUPPORTED AGENT_VERSION_BLACKLISTED AGENT_WORKER_MISSING ALLOW_LIST_GAP AUTO_UPDATE_OFF BACKUP_ONLY_CRASH_CONSISTENT BACKUP_OVERDUE BUSY_WINDOW_FORECAST CLOCK_SKEWED CONFIG_BREAKS_EXTENSION CONFIG_KEY_INEFFECTIVE CONFIG_MISSING CPU_SATURATED DHCP_CLIENT_GONE DHCP_LEASE_EXPIRED DHCP_NO_ENDPOINT DHCP_STATIC_ADDRESS EXTENSIONS_SWITCHED_OFF EXTENSION_FILES_MISSING EXTENSION_LOG_PATH_BLOCKED EXTENSION_NEVER_INSTALLED EXTENSION_NOT_READY EXTENSION_PACKAGE_UNAVAILABLE EXTENSION_REQUEST_IGNORED EXTENSION_SEVERAL_VERSIONS EXTENSION_STATE_FOREIGN EXTENSION_STATE_WRONG EXTENSION_STUCK EXTENSION_TOOL_MISSING EXTENSION_UNINSTALLED EXTENSION_VANISHED FILE_SYSTEM_ERRORS FILE_SYSTEM_LEFT_FROZEN FIX_LIMIT_REACHED FOREIGN_FIREWALL_RULE FREEZE_CONFIG_WRONG FREEZE_LOCK_HELD FREEZE_NOT_CONSISTENT GOAL_STATE_CACHE_STALE HOST_PLUGIN_UNREACHABLE INODES_EXHAUSTED INTERPRETER_INCOMPATIBLE INTERPRETER_MISSING IO_STALLED LAST_BACKUP_FAILED LIB_DIR_MOVED MEMORY_EXHAUSTED METADATA_UNREACHABLE MOUNT_NOEXEC MOUNT_READ_ONLY MOUNT_TWICE MOUNT_UNRESPONSIVE NAME_RESOLUTION_FAILS NOT_AN_AZURE_VM OTHER_EXTENSION_FAILED PACKAGE_LOCK_HELD POLICY_EXCLUDES_EXTENSION PROXY_IN_AGENT_ENVIRONMENT PROXY_NOT_FOR_EXTENSION PROXY_UNREACHABLE REBOOT_PENDING ROUTE_LEAVES_BY_WRONG_DEVICE SCRIPT_CONFIG_INVALID SCRIPT_MISSING SCRIPT_PERMISSIONS SCRIPT_TIMEOUT SPACE_EXHAUSTED STORAGE_UNREACHABLE TEMPORARY_CHANGE_OVERDUE TLS_INTERCEPTED UNSUPPORTED_SYSTEM VERBOSE_LEFT_ON WINDOW_CONTRADICTED WINDOW_UNKNOWN WIRE_SERVER_IMPOSTOR WIRE_SERVER_SLOW WIRE_SERVER_UNREACHABLE)
_shtab_backupready_fix___problem_choices=(ACCESS_CONTROL_DENIES AGENT_CANNOT_FETCH_GOAL_STATE AGENT_CERTIFICATES_FAIL AGENT_CRASH_LOOPING AGENT_DEFECT_ON_PYTHON AGENT_FIREWALL_BLOCKS_ROOT AGENT_HUNG AGENT_MASKED AGENT_NOT_ENABLED AGENT_NOT_INSTALLED AGENT_NOT_PROVISIONED AGENT_NO_AUTO_RESTART AGENT_OUTDATED AGENT_PID_FILE_STALE AGENT_START_LIMIT AGENT_START_SKIPPED AGENT_STATE_PILES_UP AGENT_STATUS_NOT_UPLOADED AGENT_STOPPED AGENT_SWITCHED_OFF AGENT_SWITCH_OFF_PENDING AGENT_TOOL_MISSING AGENT_UNSUPPORTED AGENT_VERSION_BLACKLISTED AGENT_WORKER_MISSING ALLOW_LIST_GAP AUTO_UPDATE_OFF BACKUP_ONLY_CRASH_CONSISTENT BACKUP_OVERDUE BUSY_WINDOW_FORECAST CLOCK_SKEWED CONFIG_BREAKS_EXTENSION CONFIG_KEY_INEFFECTIVE CONFIG_MISSING CPU_SATURATED DHCP_CLIENT_GONE DHCP_LEASE_EXPIRED DHCP_NO_ENDPOINT DHCP_STATIC_ADDRESS EXTENSIONS_SWITCHED_OFF EXTENSION_FILES_MISSING EXTENSION_LOG_PATH_BLOCKED EXTENSION_NEVER_INSTALLED EXTENSION_NOT_READY EXTENSION_PACKAGE_UNAVAILABLE EXTENSION_REQUEST_IGNORED EXTENSION_SEVERAL_VERSIONS EXTENSION_STATE_FOREIGN EXTENSION_STATE_WRONG EXTENSION_STUCK EXTENSION_TOOL_MISSING EXTENSION_UNINSTALLED EXTENSION_VANISHED FILE_SYSTEM_ERRORS FILE_SYSTEM_LEFT_FROZEN FIX_LIMIT_REACHED FOREIGN_FIREWALL_RULE FREEZE_CONFIG_WRONG FREEZE_LOCK_HELD FREEZE_NOT_CONSISTENT GOAL_STATE_CACHE_STALE HOST_PLUGIN_UNREACHABLE INODES_EXHAUSTED INTERPRETER_INCOMPATIBLE INTERPRETER_MISSING IO_STALLED LAST_BACKUP_FAILED LIB_DIR_MOVED MEMORY_EXHAUSTED METADATA_UNREACHABLE MOUNT_NOEXEC MOUNT_READ_ONLY MOUNT_TWICE MOUNT_UNRESPONSIVE NAME_RESOLUTION_FAILS NOT_AN_AZURE_VM OTHER_EXTENSION_FAILED PACKAGE_LOCK_HELD POLICY_EXCLUDES_EXTENSION PROXY_IN_AGENT_ENVIRONMENT PROXY_NOT_FOR_EXTENSION PROXY_UNREACHABLE REBOOT_PENDING ROUTE_LEAVES_BY_WRONG_DEVICE SCRIPT_CONFIG_INVALID SCRIPT_MISSING SCRIPT_PERMISSIONS SCRIPT_TIMEOUT SPACE_EXHAUSTED STORAGE_UNREACHABLE TEMPORARY_CHANGE_OVERDUE TLS_INTERCEPTED UNSUPPORTED_SYSTEM VERBOSE_LEFT_ON WINDOW_CONTRADICTED WINDOW_UNKNOWN WIRE_SERVER_IMPOSTOR WIRE_SERVER_SLOW WIRE_SERVER_UNREACHABLE)
_shtab_backupready_config_pos_0_choices=(check show)
_shtab_backupready_pos_0_choices=(run check status window explain bundle fix undo pause resume rules config look hands)

_shtab_backupready_run__h_nargs=0
_shtab_backupready_run___help_nargs=0
_shtab_backupready_run___web_systemd_socket_nargs=0
_shtab_backupready_check__h_nargs=0
_shtab_backupready_check___help_nargs=0
_shtab_backupready_check___json_nargs=0
_shtab_backupready_check___nagios_nargs=0
_shtab_backupready_check___demo_nargs=0
_shtab_backupready_status__h_nargs=0
_shtab_backupready_status___help_nargs=0
_shtab_backupready_status___json_nargs=0
_shtab_backupready_window__h_nargs=0
_shtab_backupready_window___help_nargs=0
_shtab_backupready_window___json_nargs=0
_shtab_backupready_explain__h_nargs=0
_shtab_backupready_explain___help_nargs=0
_shtab_backupready_bundle__h_nargs=0
_shtab_backupready_bundle___help_nargs=0
_shtab_backupready_fix__h_nargs=0
_shtab_backupready_fix___help_nargs=0
_shtab_backupready_fix___dry_run_nargs=0
_shtab_backupready_fix___enable_nargs=0
_shtab_backupready_fix___disable_nargs=0
_shtab_backupready_undo__h_nargs=0
_shtab_backupready_undo___help_nargs=0
_shtab_backupready_undo___temporary_nargs=0
_shtab_backupready_pause__h_nargs=0
_shtab_backupready_pause___help_nargs=0
_shtab_backupready_resume__h_nargs=0
_shtab_backupready_resume___help_nargs=0
_shtab_backupready_rules__h_nargs=0
_shtab_backupready_rules___help_nargs=0
_shtab_backupready_rules___keep_firing_nargs=0
_shtab_backupready_config__h_nargs=0
_shtab_backupready_config___help_nargs=0
_shtab_backupready_look__h_nargs=0
_shtab_backupready_look___help_nargs=0
_shtab_backupready_hands__h_nargs=0
_shtab_backupready_hands___help_nargs=0
_shtab_backupready_pos_0_nargs=A...
_shtab_backupready__h_nargs=0
_shtab_backupready___help_nargs=0
_shtab_backupready___version_nargs=0


# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
#     hello="world"
#     x="hello"
#     ${!x} -> ${hello} -> "world"
_shtab_backupready() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_backupready
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_backupready backupready
