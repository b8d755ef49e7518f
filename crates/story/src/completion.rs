//! Completion for shells.
//!
//! In:    the shell's name
//! Out:   a script to be sourced; names of pods come from `hyperkube get -o name`
//! Calls: `run`
//! Holds: the words are those of `command`
//! Upstream: kubectl completion

use crate::command::{FLAGS, OUTPUTS, SHELLS, VERBS};

/// The components of the program beside the commands.
const COMPONENTS: [&str; 3] = ["kubelet", "apiserver", "node"];

fn flags() -> String {
    let long = FLAGS.iter().map(|flag| format!("--{}", flag.long));
    let short = FLAGS.iter().filter_map(|flag| flag.short);
    let short = short.map(|short| format!("-{short}"));
    long.chain(short).collect::<Vec<_>>().join(" ")
}

/// The script of a shell, if it is known.
pub(crate) fn script(shell: &str) -> Option<String> {
    let verbs: Vec<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    let words = [
        verbs.as_slice(),
        COMPONENTS.as_slice(),
        &["completion", "help"],
    ]
    .concat();
    let template = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        _ => return None,
    };
    let text = template
        .replace("@WORDS@", &words.join(" "))
        .replace("@VERBS@", &verbs.join("|"))
        .replace("@VERB_WORDS@", &verbs.join(" "))
        .replace("@OUTPUTS@", &OUTPUTS.join(" "))
        .replace("@SHELLS@", &SHELLS.join(" "))
        .replace("@FLAGS@", &flags());
    Some(text)
}

const BASH: &str = r#"# bash completion of hyperkube: source <(hyperkube completion bash)
_hyperkube() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "@WORDS@" -- "$current")
        return
    fi
    case "${COMP_WORDS[1]}" in
    completion) mapfile -t COMPREPLY < <(compgen -W "@SHELLS@" -- "$current") ;;
    @VERBS@)
        case "$before" in
        -o|--output) mapfile -t COMPREPLY < <(compgen -W "@OUTPUTS@" -- "$current"); return ;;
        --socket|--root-dir) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        esac
        case "$current" in
        -*) mapfile -t COMPREPLY < <(compgen -W "@FLAGS@" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" get -o name 2>/dev/null | sed 's,^pod/,,')" -- "$current") ;;
        esac ;;
    esac
}
complete -F _hyperkube hyperkube
"#;

const ZSH: &str = r#"#compdef hyperkube
# zsh completion of hyperkube: source <(hyperkube completion zsh)
_hyperkube() {
    local -a names
    if (( CURRENT == 2 )); then
        compadd -- @WORDS@
        return
    fi
    case "${words[2]}" in
    completion) compadd -- @SHELLS@ ;;
    @VERBS@)
        case "${words[CURRENT-1]}" in
        -o|--output) compadd -- @OUTPUTS@; return ;;
        --socket|--root-dir) _files; return ;;
        esac
        if [[ "${words[CURRENT]}" == -* ]]; then
            compadd -- @FLAGS@
        else
            names=(${(f)"$("${words[1]}" get -o name 2>/dev/null | sed 's,^pod/,,')"})
            compadd -- $names
        fi ;;
    esac
}
compdef _hyperkube hyperkube
"#;

const FISH: &str = r#"# fish completion of hyperkube: hyperkube completion fish | source
complete -c hyperkube -f
complete -c hyperkube -n __fish_use_subcommand -a "@WORDS@"
complete -c hyperkube -n "__fish_seen_subcommand_from completion" -a "@SHELLS@"
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -a "(hyperkube get -o name 2>/dev/null | string replace 'pod/' '')"
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -s o -l output -x -a "@OUTPUTS@"
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -s n -l namespace -x
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -s A -l all-namespaces
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -s w -l watch
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -l socket -r
complete -c hyperkube -n "__fish_seen_subcommand_from @VERB_WORDS@" -l root-dir -r
"#;
