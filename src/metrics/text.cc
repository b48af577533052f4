// The exposition format 0.0.4: for each family a HELP and a TYPE line, then its samples. A
// backslash and a line feed are escaped in both texts, a quote in label values too; whatever else
// could break a line out of its place is replaced.
#include <cmath>

#include "metrics/metrics.h"

namespace vmhost::metrics {

namespace {

void append_escaped(std::string& out, std::string_view text, bool quoted) {
    for (char c : text) {
        if (c == '\\')
            out += "\\\\";
        else if (c == '\n')
            out += "\\n";
        else if (c == '"' && quoted)
            out += "\\\"";
        else if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f)
            out += '?'; // names of ours are ASCII
        else
            out += c;
    }
}

} // namespace

std::string number(double value) {
    constexpr double exact = 9007199254740992.0; // 2^53
    if (std::trunc(value) == value && std::fabs(value) <= exact)
        return fmt::format("{}", static_cast<std::int64_t>(value));
    return fmt::format("{}", value);
}

void append_head(std::string& out, const Family& family) {
    out.append("# HELP ").append(family.name) += ' ';
    append_escaped(out, family.help, false);
    out.append("\n# TYPE ").append(family.name) += ' ';
    out.append(name_of(family.kind)) += '\n';
}

void append_sample(std::string& out, const Family& family, const Sample& sample) {
    out += family.name;
    for (std::size_t i = 0; i < sample.labels.size(); ++i) {
        (out += i == 0 ? '{' : ',').append(family.labels[i]) += "=\"";
        append_escaped(out, sample.labels[i], true);
        out += '"';
    }
    out.append(sample.labels.empty() ? " " : "} ").append(number(sample.value)) += '\n';
}

std::string text(const Samples& samples) {
    std::string out;
    for (const auto& family : families()) {
        auto of_family = samples.of(family.metric);
        if (of_family.empty())
            continue;
        append_head(out, family);
        for (const auto& sample : of_family)
            append_sample(out, family, sample);
    }
    return out;
}

} // namespace vmhost::metrics
