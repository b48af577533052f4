// The names of days and months are English in every locale: no strftime(3), no strptime(3).

#include "http/date.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <utility>

#include <fmt/compile.h>

namespace vmhost::http {

namespace {

constexpr std::array<std::string_view, 7> days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 7> long_days = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                       "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

// Takes a date apart from its beginning; once something is not as expected, nothing is any more.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}
    bool good() const { return good_; }
    bool at_end() const { return good_ && text_.empty(); }
    bool starts_with(std::string_view word) const { return text_.starts_with(word); }

    void skip(std::string_view word) {
        good_ = good_ && text_.starts_with(word);
        if (good_)
            text_.remove_prefix(word.size());
    }
    // Exactly so many digits.
    int number(std::size_t digits) {
        auto part = text_.substr(0, digits);
        int value = 0;
        auto end = part.data() + part.size();
        good_ = good_ && part.size() == digits && part.front() != '-' &&
                std::from_chars(part.data(), end, value).ptr == end;
        if (good_)
            text_.remove_prefix(digits);
        return value;
    }
    template <std::size_t count>
    int word_of(const std::array<std::string_view, count>& words) {
        auto found =
            std::ranges::find_if(words, [&](auto word) { return text_.starts_with(word); });
        good_ = good_ && found != words.end();
        if (!good_)
            return 0;
        text_.remove_prefix(found->size());
        return static_cast<int>(found - words.begin());
    }

private:
    std::string_view text_;
    bool good_ = true;
};

void read_time(Reader& reader, tm& parts) {
    parts.tm_hour = reader.number(2);
    reader.skip(":");
    parts.tm_min = reader.number(2);
    reader.skip(":");
    parts.tm_sec = reader.number(2);
}

// Sun, 06 Nov 1994 08:49:37 GMT
void read_fixed(Reader& reader, tm& parts) {
    reader.word_of(days);
    reader.skip(", ");
    parts.tm_mday = reader.number(2);
    reader.skip(" ");
    parts.tm_mon = reader.word_of(months);
    reader.skip(" ");
    parts.tm_year = reader.number(4) - 1900;
    reader.skip(" ");
    read_time(reader, parts);
    reader.skip(" GMT");
}

// Sunday, 06-Nov-94 08:49:37 GMT
void read_rfc850(Reader& reader, tm& parts, int this_year) {
    reader.word_of(long_days);
    reader.skip(", ");
    parts.tm_mday = reader.number(2);
    reader.skip("-");
    parts.tm_mon = reader.word_of(months);
    reader.skip("-");
    auto year = this_year - this_year % 100 + reader.number(2);
    if (year > this_year + 50)
        year -= 100;
    parts.tm_year = year - 1900;
    reader.skip(" ");
    read_time(reader, parts);
    reader.skip(" GMT");
}

// Sun Nov  6 08:49:37 1994
void read_asctime(Reader& reader, tm& parts) {
    reader.word_of(days);
    reader.skip(" ");
    parts.tm_mon = reader.word_of(months);
    reader.skip(" ");
    const bool one_digit = reader.starts_with(" ");
    if (one_digit)
        reader.skip(" ");
    parts.tm_mday = reader.number(one_digit ? 1 : 2);
    reader.skip(" ");
    read_time(reader, parts);
    reader.skip(" ");
    parts.tm_year = reader.number(4) - 1900;
}

} // namespace

std::string http_date(std::int64_t unix_seconds) {
    time_t seconds = unix_seconds;
    tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format(FMT_COMPILE("{}, {:02} {} {} {:02}:{:02}:{:02} GMT"),
                       days[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday,
                       months[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900,
                       parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::optional<std::int64_t> parse_http_date(std::string_view text, std::int64_t now_unix_seconds) {
    Reader reader(text);
    tm parts{};
    auto comma = text.find(',');
    if (comma == 3) {
        read_fixed(reader, parts);
    } else if (comma != std::string_view::npos) {
        time_t now = now_unix_seconds;
        tm today{};
        ::gmtime_r(&now, &today);
        read_rfc850(reader, parts, today.tm_year + 1900);
    } else {
        read_asctime(reader, parts);
    }
    // 60 is a leap second.
    if (!reader.at_end() || parts.tm_hour > 23 || parts.tm_min > 59 || parts.tm_sec > 60)
        return std::nullopt;
    const auto seconds = std::exchange(parts.tm_sec, 0);
    tm same = parts;
    const std::int64_t minute = ::timegm(&same);
    if (same.tm_mday != parts.tm_mday || same.tm_mon != parts.tm_mon)
        return std::nullopt; // a day that does not exist becomes another
    return minute + seconds;
}

} // namespace vmhost::http
