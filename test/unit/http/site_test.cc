// Which file a request is for, and that it is never one of elsewhere.
#include <catch2/catch.hpp>

#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "../tftp/folder.h"
#include "http/date.h"
#include "http/glob.h"
#include "http/http.h"
#include "http/media_type.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

constexpr std::int64_t now = 4'000'000'000;

struct Mirror {
    test::Folder sets, web;
    Site site;

    explicit Mirror(bool listing = true) {
        sets.file("7.8/amd64/base78.tgz", "the base set");
        sets.file("7.8/amd64/SHA256", "sums");
        sets.file("7.8/amd64/.hidden", "no");
        sets.file("7.8/old/index.txt", "made by hand\n");
        web.file("index.html", "<p>");
        web.file(".well-known/acme", "yes");
        web.file("fe:e1:bb:d1:00:01 x", "odd");
        Location mirror, other;
        mirror.path = "/pub/OpenBSD/*";
        mirror.strip = 2;
        mirror.listing = listing;
        mirror.directory = std::make_shared<const Fd>(sets.open());
        other.host = "*.example.org";
        other.directory = std::make_shared<const Fd>(web.open());
        site.configure({mirror, other});
    }
    std::optional<Response> get(const std::string& path, const std::string& host = "a") {
        Request request;
        request.method = "GET";
        request.path = path;
        request.host = host;
        request.local = *parse_ipv4("10.9.8.1");
        request.local_port = 80;
        return site.answer(request, now);
    }
    int status(const std::string& path, const std::string& host = "a") {
        auto response = get(path, host);
        return response ? response->status : 0;
    }
};

std::string field(const Response& response, std::string_view name) {
    for (const auto& [each, value] : response.headers)
        if (each == name)
            return value;
    return "";
}

std::string content(const Response& response) {
    REQUIRE(response.file);
    if (response.file->content)
        return std::string(body_in_memory(response));
    std::string out(response.file->length, '\0');
    REQUIRE(::pread(response.file->file->get(), out.data(), out.size(),
                    static_cast<off_t>(response.file->offset)) == static_cast<ssize_t>(out.size()));
    return out;
}

} // namespace

TEST_CASE("a location maps paths to a directory") {
    Mirror mirror;
    auto set = mirror.get("/pub/OpenBSD/7.8/amd64/base78.tgz");
    REQUIRE(set);
    CHECK(set->status == 200);
    CHECK(content(*set) == "the base set");
    CHECK(set->content_type == "application/gzip");
    CHECK(field(*set, "Accept-Ranges") == "bytes");
    CHECK(field(*set, "Last-Modified").ends_with("GMT"));
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/comp78.tgz") == 404);
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/base78.tgz/") == 404);
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/base78.tgz/x") == 404);
    CHECK(mirror.status("/elsewhere") == 0);
    CHECK(mirror.status("/pub/OpenBSD/" + std::string(4000, 'a')) == 404);
}

TEST_CASE("the first location for host and path answers") {
    Mirror mirror;
    CHECK(mirror.status("/", "www.example.org") == 200);
    CHECK(mirror.status("/", "example.org") == 0);
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/SHA256", "www.example.org") == 200);
    CHECK(mirror.status("/pub/nothing", "www.example.org") == 404);
}

TEST_CASE("components are stripped after the location is found") {
    CHECK(strip_components("/a/b/c", 0) == "/a/b/c");
    CHECK(strip_components("/a/b/c", 2) == "/c");
    CHECK(strip_components("/a/b/c", 3) == "/");
    CHECK(strip_components("/a/b/c", 9) == "/");
    CHECK(strip_components("/a/b/", 1) == "/b/");
    CHECK(strip_components("/a/b/", 2) == "/");
    CHECK(strip_components("/", 1) == "/");
}

TEST_CASE("names that begin with a dot are not served") {
    Mirror mirror;
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/.hidden") == 404);
    CHECK(mirror.status("/.git/config", "www.example.org") == 404);
    CHECK(mirror.status("/.well-known/acme", "www.example.org") == 200);
    CHECK(mirror.status("/.well-known/.x", "www.example.org") == 404);
}

TEST_CASE("links stay beneath the directory") {
    Mirror mirror;
    auto link = [&](const char* to, const char* name) {
        REQUIRE(::symlink(to, (mirror.sets.path + "/" + name).c_str()) == 0);
    };
    link("7.8", "snapshots");
    link("/etc/passwd", "passwd");
    link("../../../../../../etc/passwd", "up");
    link("/etc", "etc");
    link("loop", "loop");
    REQUIRE(::mkfifo((mirror.sets.path + "/fifo").c_str(), 0644) == 0);
    CHECK(mirror.status("/pub/OpenBSD/snapshots/amd64/base78.tgz") == 200);
    CHECK(mirror.status("/pub/OpenBSD/passwd") == 404);
    CHECK(mirror.status("/pub/OpenBSD/up") == 404);
    CHECK(mirror.status("/pub/OpenBSD/etc/passwd") == 404);
    CHECK(mirror.status("/pub/OpenBSD/loop") == 404);
    CHECK(mirror.status("/pub/OpenBSD/fifo") == 403);
}

TEST_CASE("a directory without its slash is told of, whole") {
    Mirror mirror;
    auto response = mirror.get("/pub/OpenBSD/7.8", "evil.example.com");
    REQUIRE(response);
    CHECK(response->status == 301);
    // Not the name that the client made up.
    CHECK(field(*response, "Location") == "http://10.9.8.1/pub/OpenBSD/7.8/");
    mirror.web.file("a b/c", "x");
    auto other = mirror.get("/a b", "www.example.org");
    REQUIRE(other);
    CHECK(field(*other, "Location") == "http://www.example.org/a%20b/");
}

TEST_CASE("a listing is as the installer reads it") {
    Mirror mirror;
    for (const char* path : {"/pub/OpenBSD/7.8/amd64/", "/pub/OpenBSD/7.8/amd64/index.txt"}) {
        auto response = mirror.get(path);
        REQUIRE(response);
        CHECK(response->status == 200);
        CHECK(response->content_type == "text/plain; charset=utf-8");
        std::vector<std::string> names;
        std::size_t at = 0;
        while (at < response->body.size()) {
            auto end = response->body.find('\n', at);
            auto line = response->body.substr(at, end - at);
            names.push_back(line.substr(line.rfind(' ') + 1));
            at = end + 1;
        }
        CHECK(names == std::vector<std::string>{"SHA256", "base78.tgz"});
        CHECK(response->body.find("        12 ") != std::string::npos);
    }
    auto own = mirror.get("/pub/OpenBSD/7.8/old/index.txt");
    REQUIRE(own);
    CHECK(content(*own) == "made by hand\n");
    CHECK(mirror.status("/pub/OpenBSD/none/index.txt") == 404);
    CHECK(mirror.status("/pub/OpenBSD/") == 200);
}

TEST_CASE("names that would break a line are not listed") {
    Mirror mirror;
    mirror.sets.file("7.8/odd/a b", "x");
    mirror.sets.file("7.8/odd/c\nd", "x");
    mirror.sets.file("7.8/odd/good", "x");
    auto response = mirror.get("/pub/OpenBSD/7.8/odd/");
    REQUIRE(response);
    CHECK(std::ranges::count(response->body, '\n') == 1);
    CHECK(response->body.ends_with(" good\n"));
}

TEST_CASE("without a listing there is none") {
    Mirror mirror(false);
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/") == 403);
    CHECK(mirror.status("/pub/OpenBSD/7.8/amd64/index.txt") == 404);
    CHECK(mirror.status("/pub/OpenBSD/7.8/old/index.txt") == 200);
}

TEST_CASE("a directory of too many names is not listed") {
    Mirror mirror;
    for (std::size_t i = 0; i <= limits::max_http_listed_files; ++i)
        mirror.sets.file("many/" + std::to_string(i), "");
    CHECK(mirror.status("/pub/OpenBSD/many/") == 503);
    CHECK(mirror.status("/pub/OpenBSD/many/7") == 200);
}

TEST_CASE("a file has a tag of its state") {
    Mirror mirror;
    auto first = mirror.get("/pub/OpenBSD/7.8/amd64/SHA256");
    mirror.sets.file("7.8/amd64/SHA256", "other sums");
    auto second = mirror.get("/pub/OpenBSD/7.8/amd64/SHA256");
    REQUIRE((first && second));
    CHECK(field(*first, "ETag").starts_with('"'));
    CHECK(field(*first, "ETag") != field(*second, "ETag"));
    Request again;
    again.method = "GET";
    again.path = "/pub/OpenBSD/7.8/amd64/SHA256";
    again.conditions.if_none_match = field(*second, "ETag");
    auto known = mirror.site.answer(again, now);
    REQUIRE(known);
    CHECK(known->status == 304);
    CHECK_FALSE(known->file);
    again.conditions = {};
    again.conditions.range = "bytes=6-";
    auto part = mirror.site.answer(again, now);
    REQUIRE(part);
    CHECK(part->status == 206);
    CHECK(field(*part, "Content-Range") == "bytes 6-9/10");
    CHECK(content(*part) == "sums");
    again.conditions.range = "bytes=10-";
    auto beyond = mirror.site.answer(again, now);
    REQUIRE(beyond);
    CHECK(beyond->status == 416);
    CHECK(field(*beyond, "Content-Range") == "bytes */10");
}

TEST_CASE("a file that was served within the same second is looked at again") {
    Mirror mirror;
    const std::string url = "/pub/OpenBSD/7.8/amd64/SHA256", name = "7.8/amd64/SHA256";
    auto served = [&] {
        auto response = mirror.get(url);
        return response && response->status == 200 ? content(*response) : "none";
    };
    const auto path = mirror.sets.path + "/" + name;
    CHECK(served() == "sums");
    CHECK(served() == "sums");
    mirror.sets.file(name, "sums, and more"); // in place
    CHECK(served() == "sums, and more");
    mirror.sets.file("7.8/amd64/new", "of the next ");
    REQUIRE(::rename((mirror.sets.path + "/7.8/amd64/new").c_str(), path.c_str()) == 0);
    CHECK(served() == "of the next ");
    REQUIRE(::chmod(path.c_str(), 0) == 0); // what it was opened with before is not used again
    if (::geteuid() != 0)
        CHECK(served() == "none");
    REQUIRE(::chmod(path.c_str(), 0644) == 0);
    REQUIRE(::unlink(path.c_str()) == 0);
    CHECK(served() == "none");
    mirror.sets.file(name, "back");
    CHECK(served() == "back");
}

TEST_CASE("small files are answered from memory, large ones from the file") {
    Mirror mirror;
    for (std::size_t size : {0U, 1U, 16U << 10, (16U << 10) + 1, 100'000U}) {
        std::string all(size, 'x');
        for (std::size_t i = 0; i < size; ++i)
            all[i] = static_cast<char>('a' + i % 23);
        const auto name = "of" + std::to_string(size);
        mirror.sets.file(name, all);
        for (int again = 0; again < 2; ++again) {
            auto response = mirror.get("/pub/OpenBSD/" + name);
            REQUIRE(response);
            REQUIRE(response->file);
            CHECK((content(*response) == all));
            CHECK((response->file->content != nullptr) == (size <= 16 << 10));
        }
    }
}

TEST_CASE("patterns") {
    for (auto [pattern, text] : {std::pair{"*", ""},
                                 {"*", "/a/b"},
                                 {"", ""},
                                 {"/pub/*", "/pub/"},
                                 {"*.tgz", "a.tgz.tgz"},
                                 {"a*b*c", "aXbXbXc"},
                                 {"?[a-c]", "xb"},
                                 {"[!a-c]", "d"},
                                 {"[]]", "]"},
                                 {"[a", "[a"},
                                 {"a**", "a"}}) {
        INFO(pattern << " " << text);
        CHECK(glob_matches(pattern, text));
    }
    for (auto [pattern, text] : {std::pair{"", "a"},
                                 {"a", ""},
                                 {"/pub/*", "/pub"},
                                 {"a*b*c", "aXbX"},
                                 {"?", ""},
                                 {"[!a-c]", "b"},
                                 {"[a-c]", "d"},
                                 {"*a", "ab"}}) {
        INFO(pattern << " " << text);
        CHECK_FALSE(glob_matches(pattern, text));
    }
    // In time that is a product, not a power.
    CHECK_FALSE(glob_matches("*a*a*a*a*a*a*a*a*b", std::string(4000, 'a')));
}

TEST_CASE("what a file is, by its name") {
    CHECK(media_type("a/base78.tgz") == "application/gzip");
    CHECK(media_type("x.HTML") == "text/html; charset=utf-8");
    CHECK(media_type("SHA256") == "text/plain; charset=utf-8");
    CHECK(media_type("INSTALL.amd64") == "text/plain; charset=utf-8");
    CHECK(media_type("fe:e1:bb:d1:00:01-install.conf") == "text/plain; charset=utf-8");
    CHECK(media_type("bsd.rd") == "application/octet-stream");
    CHECK(media_type(".html") == "application/octet-stream");
    CHECK(media_type("") == "application/octet-stream");
}

TEST_CASE("site sets are beside the sets of each release, each for whom it is") {
    test::Folder sets;
    sets.file("7.8/amd64/base78.tgz", "base");
    sets.file("7.7/amd64/base77.tgz", "base");
    sets.file("snapshots/amd64/base79.tgz", "base");
    Location mirror;
    mirror.path = "/pub/OpenBSD/*";
    mirror.strip = 2;
    mirror.listing = mirror.sets = true;
    mirror.directory = std::make_shared<const Fd>(sets.open());
    Site site;
    site.configure({mirror});
    const IpAddress puffy = *parse_ipv4("10.9.8.13"), other = *parse_ipv4("10.9.8.14");
    site.configure_sets({{"", {}, false, "all"}, {"puffy", puffy, false, "own"}}, now);
    auto get = [&](const std::string& path, const IpAddress& peer) {
        Request request;
        request.method = "GET";
        request.path = "/pub/OpenBSD/" + path;
        request.peer = peer;
        auto response = site.answer(request, now);
        return response && response->status == 200 ? response->body : "";
    };
    auto names = [&](const std::string& path, const IpAddress& peer) {
        std::string out;
        std::istringstream list(get(path, peer));
        for (std::string line; std::getline(list, line);)
            out += line.substr(line.rfind(' ') + 1) + " ";
        return out;
    };
    CHECK(get("7.8/amd64/site78.tgz", other) == "all");
    CHECK(get("7.7/amd64/site77.tgz", other) == "all");
    CHECK(get("snapshots/amd64/site79.tgz", other) == "all");
    CHECK(get("7.8/amd64/site78-puffy.tgz", puffy) == "own");
    CHECK(get("7.8/amd64/site78-puffy.tgz", other).empty());
    for (auto none : {"7.8/amd64/site77.tgz", "7.8/site78.tgz", "7.8/amd64/x/site78.tgz",
                      "7.8/amd64/site.tgz", "7.8/amd64/site78-.tgz", "7.8/amd64/site78-other.tgz",
                      "snapshots/amd64/sitexx.tgz", "site78.tgz"}) {
        INFO(none);
        CHECK(get(none, puffy).empty());
    }
    CHECK(names("7.8/amd64/index.txt", puffy) == "base78.tgz site78.tgz site78-puffy.tgz ");
    CHECK(names("7.8/amd64/", other) == "base78.tgz site78.tgz ");
    CHECK(names("snapshots/amd64/index.txt", other) == "base79.tgz site79.tgz ");
    CHECK(names("7.8/", other) == "amd64 ");

    // A fetch that broke off goes on, as long as it is the same archive.
    auto ask = [&](const Conditions& conditions, std::int64_t when) {
        Request request;
        request.method = "GET";
        request.path = "/pub/OpenBSD/7.8/amd64/site78-puffy.tgz";
        request.peer = puffy;
        request.conditions = conditions;
        return site.answer(request, when).value();
    };
    auto whole = ask({}, now);
    CHECK(field(whole, "Last-Modified") == http_date(now));
    CHECK(field(whole, "Cache-Control") == "no-store");
    Conditions rest;
    rest.range = "bytes=1-";
    rest.if_range = field(whole, "ETag");
    auto part = ask(rest, now);
    CHECK(part.status == 206);
    CHECK(part.body == "wn");
    CHECK(field(part, "Content-Range") == "bytes 1-2/3");
    Conditions beyond;
    beyond.range = "bytes=3-";
    CHECK(ask(beyond, now).status == 416);
    Conditions known;
    known.if_none_match = rest.if_range;
    CHECK(ask(known, now).status == 304);
    CHECK(ask(known, now).body.empty());
    site.configure_sets({{"puffy", puffy, false, "own"}}, now + 100);
    CHECK(ask(rest, now + 100).status == 206);
    CHECK(field(ask({}, now + 100), "Last-Modified") == http_date(now));
    site.configure_sets({{"puffy", puffy, false, "new"}}, now + 200);
    auto changed = ask(rest, now + 200);
    CHECK(changed.status == 200);
    CHECK(changed.body == "new");
    CHECK(field(changed, "Last-Modified") == http_date(now + 200));

    // One that is claimed is only named here; another guest may have one of its name.
    site.configure_sets({{"puffy", puffy, true, ""}, {"puffy", other, false, "other's"}}, now);
    CHECK(names("7.8/amd64/index.txt", puffy) == "base78.tgz site78-puffy.tgz ");
    CHECK(get("7.8/amd64/site78-puffy.tgz", puffy).empty());
    CHECK(get("7.8/amd64/site78-puffy.tgz", other) == "other's");
    Request request;
    request.path = "/pub/OpenBSD/7.8/amd64/site78-puffy.tgz";
    request.peer = puffy;
    CHECK_FALSE(site.has_site_set(request));
    request.peer = other;
    CHECK(site.has_site_set(request));
    request.path = "/elsewhere/site78-puffy.tgz";
    CHECK_FALSE(site.has_site_set(request));
}
