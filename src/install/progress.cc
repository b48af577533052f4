#include "install/progress.h"

#include <algorithm>
#include <fnmatch.h>

namespace vmhost::install {

namespace {

constexpr std::size_t max_console_line_bytes = 512;
constexpr std::size_t max_set_name_bytes = 64;
// A guest that asks and asks is not answered for ever.
constexpr unsigned max_keys = 12;

// boot(8) on a console that it does not know to be serial: it is told, and goes on.
constexpr std::string_view boot_prompt = "boot> ";
constexpr std::string_view boot_keys[] = {"stty com0 115200\r", "set tty com0\r", "boot\r"};
// Of the installer: its menu, and what it asks when there are several interfaces and none is said
// to be the one that it was booted from: the first will do.
constexpr std::pair<std::string_view, std::string_view> prompts[] = {
    {"(A)utoinstall or (S)hell? ", "a\r"},
    {"Which network interface should be used for the initial DHCP request?", "\r"},
};
constexpr std::string_view by_itself = "Starting non-interactive mode";

// After each of these the installer goes back to its menu, and nothing goes on by itself.
constexpr std::string_view last_words[] = {
    "failed; check /tmp/ai/ai.log",
    "non-interactive mode aborted",
    "Question has no answer in response file",
    "No autopartitioning template found.",
    "Autopartitioning failed.",
};

std::string_view name_part(std::string_view text) {
    auto first = text.find_first_not_of(' ');
    if (first == std::string_view::npos)
        return {};
    text.remove_prefix(first);
    return text.substr(0, text.find(' '));
}

bool is_kernel(std::string_view name) {
    return name == "bsd" || name == "bsd.mp" || name == "bsd.rd";
}

bool is_general_site(std::string_view name) {
    return name.starts_with("site") && name.find('-') == std::string_view::npos;
}

} // namespace

std::string_view name_of(Phase phase) {
    constexpr std::string_view names[] = {"armed",    "lease",  "answers", "sets",
                                          "rebooted", "booted", "ssh"};
    static_assert(std::size(names) == phases);
    return names[static_cast<std::size_t>(phase)];
}

Phase Progress::phase() const {
    for (std::size_t i = phases; i-- > 1;)
        if (since_s[i])
            return static_cast<Phase>(i);
    return Phase::armed;
}

std::optional<unsigned> Progress::percent() const {
    if (wanted_bytes == 0)
        return std::nullopt;
    return static_cast<unsigned>(std::min<std::uint64_t>(fetched_bytes, wanted_bytes) * 100 /
                                 wanted_bytes);
}

bool Progress::moved(std::int64_t now_s) {
    moved_s = now_s;
    stalled = false;
    return true;
}

bool Progress::reached(Phase phase, std::int64_t now_s) {
    if (over() || (since_s[0] && phase <= this->phase()))
        return false;
    since_s[static_cast<std::size_t>(phase)] = now_s;
    return moved(now_s);
}

bool Progress::fails(std::string_view words, std::int64_t now_s) {
    if (over() || phase() >= Phase::rebooted)
        return false;
    failed = words;
    failed_s = now_s;
    return moved(now_s);
}

// News is the phase; the rest only keeps it from being taken for stalled.
bool Progress::fetched(std::string_view name, std::uint64_t bytes, std::int64_t now_s) {
    if (over() || phase() < Phase::answers || phase() > Phase::sets || !is_set(name))
        return false;
    fetched_bytes += bytes;
    return unpacks(name, now_s);
}

bool Progress::unpacks(std::string_view name, std::int64_t now_s) {
    if (over() || phase() < Phase::answers || phase() > Phase::sets)
        return false;
    set = name;
    moved(now_s);
    return reached(Phase::sets, now_s);
}

bool Progress::stalls(std::int64_t now_s, std::int64_t stall_s) {
    // Before the answers nobody knows whether it runs, and afterwards it is a host like others.
    if (over() || stalled || phase() < Phase::lease || phase() >= Phase::booted ||
        now_s - moved_s < stall_s)
        return false;
    stalled = true;
    return true;
}

bool is_set(std::string_view name) {
    return name.size() <= max_set_name_bytes &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_") == std::string_view::npos &&
           (is_kernel(name) || name.ends_with(".tgz"));
}

std::vector<std::string> selected_sets(const std::vector<std::string>& names,
                                       std::string_view answer, bool several_processors) {
    std::vector<std::pair<std::string, bool>> all;
    for (const auto& name : names)
        if (is_set(name) && (name != "bsd.mp" || several_processors))
            all.emplace_back(name, !is_general_site(name));
    while (!answer.empty()) {
        auto word = answer.substr(0, answer.find(' '));
        answer.remove_prefix(std::min(word.size() + 1, answer.size()));
        const bool add = !word.starts_with('-');
        if (word.starts_with('-') || word.starts_with('+'))
            word.remove_prefix(1);
        const auto pattern = word == "all" ? std::string("*") : std::string(word);
        for (auto& [name, selected] : all)
            if (::fnmatch(pattern.c_str(), name.c_str(), 0) == 0)
                selected = add;
    }
    std::vector<std::string> out;
    for (auto& [name, selected] : all)
        if (selected)
            out.push_back(std::move(name));
    return out;
}

ConsoleReader::Heard ConsoleReader::read(Bytes text) {
    Heard heard;
    for (auto byte : text) {
        if (byte == '\n' || byte == '\r') {
            read_line(heard);
            line_.clear();
            line_has_keys_ = false;
        } else if (line_.size() < max_console_line_bytes) {
            line_ += static_cast<char>(byte);
        }
    }
    // It waits behind these, without an end of the line.
    heard.login |= line_.ends_with("login: ");
    heard.keys = keys_wanted();
    return heard;
}

// Of the line that is not at its end, once.
std::string_view ConsoleReader::keys_wanted() {
    if (line_has_keys_ || !line_.ends_with(' ') || keys_said_ == max_keys)
        return {};
    std::string_view keys;
    if (line_ == boot_prompt)
        keys = boot_keys[std::min<std::size_t>(boot_prompts_++, std::size(boot_keys) - 1)];
    for (const auto& [prompt, answer] : prompts)
        if (!begins_by_itself_ && line_.find(prompt) != std::string::npos)
            keys = answer;
    if (!keys.empty()) {
        line_has_keys_ = true;
        ++keys_said_;
    }
    return keys;
}

void ConsoleReader::read_line(Heard& heard) {
    begins_by_itself_ |= line_.find(by_itself) != std::string::npos;
    for (auto end : last_words)
        if (heard.failed.empty() && line_.find(end) != std::string::npos)
            heard.failed = end;
    for (std::string_view word : {"Installing ", "Get/Verify ", "Fetching "}) {
        if (!line_.starts_with(word))
            continue;
        auto name = name_part(std::string_view(line_).substr(word.size()));
        name = name.substr(name.rfind('/') + 1);
        if (is_set(name) && (heard.sets.empty() || heard.sets.back() != name))
            heard.sets.emplace_back(name);
    }
}

} // namespace vmhost::install
