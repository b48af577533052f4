// What is wrong with an answer file: bytes first, then lines, then the play.

#include "install/install.h"

#include "install/answer_file.h"

namespace vmhost::install {

namespace {

// ksh takes longer lines, but none is meant to be longer.
constexpr std::size_t max_line_bytes = 2000;

class Lint {
public:
    explicit Lint(std::string_view text) : text_(text) {}

    std::vector<Error> run() {
        check_bytes();
        lines_ = parse_lines(text_);
        std::vector<const Question*> missing;
        play(lines_, [&](const Question& question) {
            if (!question.has_default)
                missing.push_back(&question);
        });
        for (const auto& line : lines_)
            check_line(line);
        for (const auto* question : missing)
            complaints_.emplace_back(
                ErrorKind::invalid,
                fmt::format("no line answers \"{}\", which has no default", question->text));
        return std::move(complaints_);
    }

private:
    template <class... Args>
    void complain(std::uint32_t line, fmt::format_string<Args...> format, Args&&... args) {
        complaints_.push_back(
            Error(ErrorKind::invalid, fmt::format(format, std::forward<Args>(args)...))
                .at({"", line, 0}));
    }

    void check_bytes() {
        constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
        if (text_.starts_with(byte_order_mark))
            complain(1, "the file begins with a byte order mark, which becomes part of the first "
                        "key");
        std::uint32_t number = 0;
        for (auto rest = text_; !rest.empty();) {
            auto end = rest.find('\n');
            check_raw_line(++number, rest.substr(0, end));
            rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
        }
    }

    void check_raw_line(std::uint32_t number, std::string_view line) {
        if (line.ends_with('\r')) {
            if (!carriage_return_seen_)
                complain(number, "the line ends in CRLF, the CR becomes part of the answer");
            carriage_return_seen_ = true;
            return;
        }
        for (char c : line)
            if (static_cast<unsigned char>(c) < 0x20 && c != '\t') {
                complain(number, "the line has a control character");
                break;
            }
        if (line.size() > max_line_bytes)
            complain(number, "the line is longer than {} bytes", max_line_bytes);
        auto first = line.find_first_not_of(" \t");
        if (first == std::string_view::npos || line[first] == '#')
            return;
        auto equals = line.find('=');
        if (equals == first)
            complain(number, "the line has no question and is ignored");
        else if (equals == std::string_view::npos)
            complain(number, "the line has no \"=\" and is ignored");
        else if (line.find_first_not_of(" \t", equals + 1) == std::string_view::npos)
            complain(number, "the answer is empty and the line is ignored");
        else if ((line.back() == ' ' || line.back() == '\t') &&
                 line.substr(0, equals).find("assword") != std::string_view::npos)
            complain(number, "the password ends in a blank, which is cut off");
    }

    void check_line(const Line& line) {
        std::vector<std::string_view> found_in;
        bool known = false;
        for (const auto& question : questions()) {
            if (!key_matches(line.normal_key, question.text))
                continue;
            known = true;
            const bool one_of_a_kind = question.repeats && question.asked == Asked::if_answered;
            if (!one_of_a_kind)
                found_in.push_back(question.text);
        }
        if (!known)
            complain(line.number, "\"{}\" is in no question of the installer",
                     printable(line.key, 80));
        else if (found_in.size() > 1)
            complain(line.number, "\"{}\" is too general: it is in \"{}\" and in \"{}\"",
                     printable(line.key, 80), found_in[0], found_in[1]);
        if (known && !line.taken_by)
            check_untaken(line);
    }

    // Not asked in these circumstances is no harm; answered by an earlier line is.
    void check_untaken(const Line& line) {
        for (const auto& earlier : lines_)
            if (earlier.taken_by && !earlier.taken_by->repeats &&
                key_matches(line.normal_key, earlier.taken_by->text)) {
                complain(line.number, "line {} answers \"{}\" already", earlier.number,
                         earlier.taken_by->text);
                return;
            }
    }

    std::string_view text_;
    std::vector<Line> lines_;
    std::vector<Error> complaints_;
    bool carriage_return_seen_ = false;
};

} // namespace

std::vector<Error> lint_answers(std::string_view text) {
    return Lint(text).run();
}

} // namespace vmhost::install
