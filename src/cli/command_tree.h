// The two command lines as data: what completion knows of them (command_line.cc makes it from the
// parsers themselves, so that it cannot differ from them).
#pragma once

#include <string>
#include <vector>

namespace vmhost::cli {

// What an option's value, or an argument, may be.
struct Value {
    enum class Kind : std::uint8_t { none, text, file, vm, words };
    Kind kind = Kind::none;
    std::vector<std::string> words;
};

struct OptionDescription {
    std::vector<std::string> names; // "-f", "--file"
    std::string help;
    Value value;
};

struct CommandTree {
    std::string name;
    std::string help;
    std::vector<OptionDescription> options;
    std::vector<Value> arguments; // in their order
    std::vector<CommandTree> commands;
};

CommandTree vmhost_tree();
CommandTree vmctl_tree();

} // namespace vmhost::cli
