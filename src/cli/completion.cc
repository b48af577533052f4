// vmhost completion: scripts for bash, zsh and fish that complete vmhost and vmctl.
//
// The scripts hold no logic of the commands, only tables made from the command trees: for each
// command, as "vmctl stop", its options and commands, what the value of an option may be, and
// what its arguments may be. Names of VMs come from vmctl status at the moment they are wanted.
#include <cstdio>

#include "cli/cli.h"
#include "cli/command_tree.h"

namespace vmhost::cli {

namespace {

// Calls use(path, command) for each command, "vmctl" and "vmctl stop".
template <class Use>
void each_command(const CommandTree& command, const std::string& above, const Use& use) {
    auto path = above.empty() ? command.name : above + " " + command.name;
    use(path, command);
    for (const auto& inner : command.commands)
        each_command(inner, path, use);
}

template <class Use>
void each_command(const Use& use) {
    each_command(vmhost_tree(), "", use);
    each_command(vmctl_tree(), "", use);
}

// What the scripts call the kinds of values.
std::string kind_of(const Value& value) {
    switch (value.kind) {
    case Value::Kind::file:
        return "@file";
    case Value::Kind::vm:
        return "@vm";
    case Value::Kind::words:
        return fmt::format("{}", fmt::join(value.words, " "));
    case Value::Kind::text:
        return "@none";
    case Value::Kind::none:
        break;
    }
    return "";
}

// In single quotes, for any of the three shells.
std::string shell_quoted(std::string_view text) {
    std::string out = "'";
    for (char c : text)
        out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

std::string words_of(const CommandTree& command) {
    std::string out;
    for (const auto& inner : command.commands)
        out += (out.empty() ? "" : " ") + inner.name;
    for (const auto& option : command.options)
        for (const auto& name : option.names)
            out += (out.empty() ? "" : " ") + name;
    return out;
}

// bash and zsh share the tables, as functions of the command's path.
void print_tables() {
    std::string commands, words, values, arguments;
    each_command([&](const std::string& path, const CommandTree& command) {
        commands += fmt::format("    {}) return 0 ;;\n", shell_quoted(path));
        words += fmt::format("    {}) echo {} ;;\n", shell_quoted(path),
                             shell_quoted(words_of(command)));
        for (const auto& option : command.options)
            for (const auto& name : option.names)
                if (option.value.kind != Value::Kind::none)
                    values += fmt::format("    {}) echo {} ;;\n", shell_quoted(path + " " + name),
                                          shell_quoted(kind_of(option.value)));
        for (std::size_t i = 0; i < command.arguments.size(); ++i)
            arguments +=
                fmt::format("    {}) echo {} ;;\n", shell_quoted(fmt::format("{} {}", path, i)),
                            shell_quoted(kind_of(command.arguments[i])));
    });
    auto print = [](const char* name, const char* what, const std::string& cases,
                    const char* otherwise) {
        std::printf("# %s\n%s() {\n    case \"$1\" in\n%s    *) return %s ;;\n    esac\n}\n", what,
                    name, cases.c_str(), otherwise);
    };
    print("_vmhost_is_command", "Whether this is a command.", commands, "1");
    print("_vmhost_words", "The commands and options of a command.", words, "0");
    print("_vmhost_value", "What the value of an option may be.", values, "1");
    print("_vmhost_argument", "What an argument, by its number, may be.", arguments, "1");
}

// Walks over the words before the one that is completed, and says what that may be. For bash and
// zsh alike: no word is split but by read and tr.
constexpr const char* shared_shell = R"sh(
# Names of VMs, from the daemon whose socket the line names.
_vmhost_vms() {
    command vmctl -s "${_vmhost_socket:-/run/vmhost.sock}" status </dev/null 2>/dev/null |
        while read -r _ _ _ _ _ _ _ _ name; do
            [ "$name" = NAME ] || echo "$name"
        done
}
# The command, the word to be completed, and the words before it: what it may be, a word a line;
# @file is any file.
_vmhost_candidates() {
    local line=$1 current=$2 word kind after='' count=0
    _vmhost_socket=''
    shift 2
    for word in "$@"; do
        if [ -n "$after" ]; then
            case "$after" in -s | --socket) _vmhost_socket=$word ;; esac
            after=''
        elif _vmhost_is_command "$line $word"; then
            line="$line $word"
        elif _vmhost_value "$line $word" >/dev/null; then
            after=$word
        else
            case "$word" in -*) ;; *) count=$((count + 1)) ;; esac
        fi
    done
    if [ -n "$after" ]; then
        kind=$(_vmhost_value "$line $after")
    else
        case "$current" in
        -*) kind=$(_vmhost_words "$line") ;;
        *) kind="$(_vmhost_words "$line") $(_vmhost_argument "$line $count")" ;;
        esac
    fi
    printf '%s\n' "$kind" | tr ' ' '\n' | while read -r word; do
        case "$word" in
        @vm) _vmhost_vms ;;
        @none | '') ;;
        *) printf '%s\n' "$word" ;;
        esac
    done
}
)sh";

void print_bash() {
    std::puts("# bash completion for vmhost(8) and vmctl(8), made by vmhost completion bash.");
    print_tables();
    std::fputs(shared_shell, stdout);
    std::fputs(R"sh(
_vmhost() {
    local current=${COMP_WORDS[COMP_CWORD]} list
    list=$(_vmhost_candidates "${COMP_WORDS[0]##*/}" "$current" "${COMP_WORDS[@]:1:COMP_CWORD-1}")
    COMPREPLY=($(compgen -W "${list//@file/}" -- "$current"))
    case "$list" in *@file*) COMPREPLY+=($(compgen -f -- "$current")) ;; esac
}
complete -o filenames -F _vmhost vmhost vmctl
)sh",
               stdout);
}

void print_zsh() {
    std::puts("#compdef vmhost vmctl\n"
              "# zsh completion for vmhost(8) and vmctl(8), made by vmhost completion zsh.");
    print_tables();
    std::fputs(shared_shell, stdout);
    std::fputs(R"sh(
_vmhost() {
    local -a list
    list=(${(f)"$(_vmhost_candidates "${words[1]:t}" "${words[CURRENT]}" "${(@)words[2,CURRENT-1]}")"})
    if (( ${list[(I)@file]} )); then
        list=(${list:#@file})
        _files
    fi
    compadd -a list
}
compdef _vmhost vmhost vmctl
)sh",
               stdout);
}

// In fish a line says when it holds: after which commands, and before which others.
std::string fish_condition(const std::vector<std::string>& path, const CommandTree& command) {
    std::string out;
    for (std::size_t i = 1; i < path.size(); ++i)
        out +=
            fmt::format("{}__fish_seen_subcommand_from {}", out.empty() ? "" : "; and ", path[i]);
    if (command.commands.empty())
        return out;
    out +=
        out.empty() ? "not __fish_seen_subcommand_from" : "; and not __fish_seen_subcommand_from";
    for (const auto& inner : command.commands)
        out += " " + inner.name;
    return out;
}

std::string fish_value(const Value& value) {
    switch (value.kind) {
    case Value::Kind::file:
        return " -F";
    case Value::Kind::vm:
        return " -a '(__vmhost_vms)'";
    case Value::Kind::words:
        return fmt::format(" -a '{}'", fmt::join(value.words, " "));
    default:
        return "";
    }
}

void print_fish(const CommandTree& command, std::vector<std::string> path) {
    path.push_back(command.name);
    auto begin = "complete -c " + path.front();
    if (auto condition = fish_condition(path, command); !condition.empty())
        begin += " -n " + shell_quoted(condition);
    for (const auto& inner : command.commands)
        std::printf("%s -f -a %s -d %s\n", begin.c_str(), inner.name.c_str(),
                    shell_quoted(inner.help).c_str());
    for (const auto& option : command.options) {
        auto line = begin;
        for (const auto& name : option.names)
            line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
        if (option.value.kind != Value::Kind::none)
            line += " -r" + fish_value(option.value);
        std::printf("%s -d %s\n", line.c_str(), shell_quoted(option.help).c_str());
    }
    for (const auto& argument : command.arguments)
        std::printf("%s%s%s\n", begin.c_str(), argument.kind == Value::Kind::file ? "" : " -f",
                    fish_value(argument).c_str());
    for (const auto& inner : command.commands)
        print_fish(inner, path);
}

void print_fish() {
    std::puts("# fish completion for vmhost(8) and vmctl(8), made by vmhost completion fish.\n"
              "function __vmhost_vms\n"
              "    command vmctl status 2>/dev/null | string match -rv ' NAME$' | "
              "string replace -r '.* ' ''\n"
              "end");
    print_fish(vmhost_tree(), {});
    print_fish(vmctl_tree(), {});
}

} // namespace

int run_completion(const Command& command) {
    if (command.source == "bash")
        print_bash();
    else if (command.source == "zsh")
        print_zsh();
    else
        print_fish();
    return std::fflush(stdout) == 0 ? 0 : 1;
}

} // namespace vmhost::cli
