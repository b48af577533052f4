// Names of files of installations. OpenBSD's installer asks for its answers in this order:
//
//   [PREFIX/]aa:bb:cc:dd:ee:ff-install.conf    its Ethernet address
//   [PREFIX/]NAME-install.conf                 the host name DHCP gave it
//   [PREFIX/]install.conf
//
// and the same with "upgrade". PREFIX is what stood before the last slash of the
// DHCP file name. Every other file has the same three names.

#include "http/answer.h"

#include <algorithm>

#include "http/media_type.h"
#include "http/parser.h"

namespace vmhost::http {

namespace {

constexpr std::string_view installer_names[] = {"install.conf", "upgrade.conf"};

bool is_installer_name(std::string_view name) {
    return std::ranges::find(installer_names, name) != std::end(installer_names);
}

std::string_view short_name(std::string_view name) {
    return name.substr(0, name.find('.'));
}

// The installer may know the name with the domain where we do not, or without.
bool is_name_of(const Answer& answer, std::string_view stem) {
    if (equal_ignoring_case(stem, answer.host_name) || equal_ignoring_case(stem, answer.vm))
        return true;
    const bool one_is_short =
        stem.find('.') == std::string_view::npos || answer.host_name.find('.') == std::string::npos;
    return one_is_short && equal_ignoring_case(short_name(stem), short_name(answer.host_name));
}

bool belongs_to(const Answer& answer, std::string_view stem) {
    if (stem.empty())
        return true;
    if (auto lladdr = parse_mac(stem))
        return *lladdr == answer.lladdr;
    return is_name_of(answer, stem);
}

bool is_version(std::string_view text) {
    auto dot = text.find('.');
    auto digits = [](std::string_view part) {
        return !part.empty() && part.size() <= 3 &&
               part.find_first_not_of("0123456789") == std::string_view::npos;
    };
    return text == "snapshots" || (dot != std::string_view::npos && digits(text.substr(0, dot)) &&
                                   digits(text.substr(dot + 1)));
}

bool is_arch(std::string_view text) {
    return !text.empty() && text.size() <= 16 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string_view::npos;
}

} // namespace

std::optional<SetPath> parse_set_path(std::string_view query) {
    while (!query.empty()) {
        auto item = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(item.size() + 1, query.size()));
        constexpr std::string_view key = "path=";
        if (!item.starts_with(key))
            continue;
        auto value = decode_path(item.substr(key.size())); // "%2f" from careful clients
        auto slash = value ? value->find('/') : std::string::npos;
        if (slash == std::string::npos)
            return std::nullopt;
        SetPath path{value->substr(0, slash), value->substr(slash + 1)};
        if (!is_version(path.version) || !is_arch(path.arch))
            return std::nullopt;
        return path;
    }
    return std::nullopt;
}

void Answers::configure(std::vector<Answer> answers) {
    answers_ = std::move(answers);
    names_.assign(std::begin(installer_names), std::end(installer_names));
    for (const auto& answer : answers_)
        for (const auto& file : answer.files)
            if (std::ranges::find(names_, file.name) == names_.end())
                names_.push_back(file.name);
}

// The longest that fits: one name may end in another.
std::optional<Answers::Name> Answers::parse_name(std::string_view path) const {
    const auto last = path.substr(path.rfind('/') + 1);
    std::optional<Name> found;
    for (std::string_view name : names_) {
        if (!last.ends_with(name) || (found && found->file.size() >= name.size()))
            continue;
        auto stem = last.substr(0, last.size() - name.size());
        if (stem.empty())
            found = Name{name, {}};
        else if (stem.size() >= 2 && stem.ends_with('-'))
            found = Name{name, stem.substr(0, stem.size() - 1)};
    }
    return found;
}

Lookup Answers::find(std::string_view path, std::string_view query, IpAddress peer) const {
    Lookup lookup;
    auto name = parse_name(path);
    if (!name)
        return lookup;
    lookup.is_answer_name = true;
    lookup.set_path = parse_set_path(query);
    for (const auto& answer : answers_) {
        if (peer != answer.address || peer.is_unspecified() || !belongs_to(answer, name->stem))
            continue;
        for (const auto& file : answer.files)
            if (file.name == name->file && !(file.once && answer.sealed)) {
                lookup.answer = &answer;
                lookup.file = &file;
                return lookup;
            }
    }
    lookup.refusal = refusal(*name, peer);
    return lookup;
}

AnswerOutcome Answers::refusal(const Name& name, const IpAddress& peer) const {
    auto has = [](const Answer& answer, auto&& wanted) {
        return std::ranges::any_of(answer.files,
                                   [&](const auto& file) { return wanted(file.name); });
    };
    auto why = AnswerOutcome::unknown;
    for (const auto& answer : answers_) {
        const bool own = peer == answer.address && !peer.is_unspecified();
        if (!belongs_to(answer, name.stem))
            continue;
        if (own && is_installer_name(name.file) && has(answer, is_installer_name))
            return answer.sealed ? AnswerOutcome::sealed : AnswerOutcome::other_mode;
        if (own)
            return has(answer, [&](const auto& each) { return each == name.file; })
                       ? AnswerOutcome::sealed
                       : AnswerOutcome::unknown;
        if (!name.stem.empty())
            why = AnswerOutcome::other_vm;
    }
    return why;
}

bool Answers::is_guest(IpAddress peer) const {
    return std::ranges::any_of(answers_, [&](const auto& one) { return peer == one.address; });
}

void Answers::seal(std::string_view vm) {
    for (auto& answer : answers_)
        answer.sealed |= answer.vm == vm;
}

std::string_view name_of(AnswerOutcome outcome) {
    constexpr std::string_view names[] = {"served", "unknown", "other-vm", "other-mode",
                                          "sealed", "busy",    "late",     "failed"};
    static_assert(std::size(names) == answer_outcomes);
    return names[static_cast<std::size_t>(outcome)];
}

Response answer_response(AnswerOutcome outcome, const std::string& vm, std::string_view name,
                         std::string content) {
    Response response;
    switch (outcome) {
    case AnswerOutcome::served:
        response.body = std::move(content);
        if (name.ends_with(".tgz"))
            response.content_type = media_type(name);
        response.vm = vm;
        break;
    case AnswerOutcome::busy:
    case AnswerOutcome::late:
    case AnswerOutcome::failed:
        response = error_response(503);
        break;
    default:
        response = error_response(404);
    }
    response.headers.emplace_back("Cache-Control", "no-store");
    return response;
}

} // namespace vmhost::http
