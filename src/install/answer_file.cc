// The installer's reading of an answer file. Its rules are few: blanks around a
// line, a key and a value are cut off; a line is a comment when it begins with '#'
// or '='; it needs an '=' with something behind it; the leftmost '=' divides.

#include "install/answer_file.h"

#include "base/base.h"

namespace vmhost::install {

namespace {

const Line* ask(const Question& question, std::vector<Line>& lines) {
    for (auto& line : lines)
        if (!line.taken_by && key_matches(line.normal_key, question.text)) {
            line.taken_by = &question;
            return &line;
        }
    return nullptr;
}

} // namespace

Line make_line(std::string_view key, std::string_view value, std::uint32_t number) {
    return {std::string(key), normal_key(key), std::string(value), number, nullptr};
}

std::vector<Line> parse_lines(std::string_view text) {
    std::vector<Line> lines;
    for (std::uint32_t number = 1; !text.empty(); ++number) {
        auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text = end == std::string_view::npos ? "" : text.substr(end + 1);
        auto equals = line.find('=');
        if (line.starts_with('#') || equals == 0 || equals == std::string_view::npos ||
            equals + 1 == line.size())
            continue;
        lines.push_back(
            make_line(trimmed(line.substr(0, equals)), trimmed(line.substr(equals + 1)), number));
    }
    return lines;
}

void play(std::vector<Line>& lines,
          const std::function<void(const Question& question)>& unanswered) {
    bool with_user = false, over_http = true;
    for (const auto& question : questions()) {
        if ((question.asked == Asked::with_user && !with_user) ||
            (question.asked == Asked::over_http && !over_http))
            continue;
        const Line* line = ask(question, lines);
        if (!line) {
            unanswered(question);
            continue;
        }
        if (question.good_key == "Setup a user")
            with_user = line->value != "no" && line->value != "n";
        if (question.good_key == "Location of sets")
            over_http = line->value.starts_with('h') || line->value.starts_with('H');
    }
}

} // namespace vmhost::install
