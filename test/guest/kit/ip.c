#include "ip.h"

enum { feature_mac = 1 << 5 };
enum { header_bytes = 12, frame_bytes = 1514, buffers = 16 };
enum { try_ticks = ticks_per_second, tries = 8 };
enum { type_arp = 0x0806, type_ip = 0x0800, protocol_tcp = 6, protocol_udp = 17 };
enum { fin = 1, syn = 2, rst = 4, psh = 8, ack = 16 };
enum { first_port = 49152, ports = 16384, window_bytes = 8192, max_segment = 1460 };

uint8_t my_mac[6];
static uint8_t my_address[4];
static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t broadcast[4] = {255, 255, 255, 255};

static struct virtio device;
static struct queue receive_queue, send_queue;
static struct buffer {
    uint8_t header[header_bytes];
    uint8_t frame[frame_bytes + 2];
} incoming[buffers], outgoing;
static uint8_t* incoming_of_head[virtio_max_queue];

// ---- numbers and checksums

static void put16(uint8_t* at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}
static void put32(uint8_t* at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}
static uint32_t get16(const uint8_t* at) {
    return (uint32_t)at[0] << 8 | at[1];
}
static uint32_t get32(const uint8_t* at) {
    return get16(at) << 16 | get16(at + 2);
}

static uint32_t sum(const uint8_t* bytes, uint32_t count, uint32_t total) {
    for (; count > 1; bytes += 2, count -= 2)
        total += get16(bytes);
    return count > 0 ? total + ((uint32_t)*bytes << 8) : total;
}
static uint32_t folded(uint32_t total) {
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return ~total & 0xffff;
}
// Over the pseudo header (addresses, protocol, length) and the segment.
static uint32_t transport_checksum(const uint8_t* ip, const uint8_t* segment, uint32_t length) {
    return folded(sum(segment, length, sum(ip + 12, 8, ip[9] + length)));
}

// ---- frames

static void offer_buffer(struct buffer* buffer) {
    struct segment segment = {buffer, sizeof *buffer};
    int head = queue_add(&receive_queue, &segment, 0, 1);
    if (head < 0)
        fail("the receive queue is full");
    incoming_of_head[head] = (uint8_t*)buffer;
}

void ip_open(void) {
    virtio_open(&device, virtio_net, feature_mac);
    if (!(device.features & feature_mac))
        fail("the network device has no MAC");
    for (unsigned i = 0; i < 6; i++)
        my_mac[i] = window_in8(&device.device, i);
    virtio_queue(&device, &receive_queue, 0);
    virtio_queue(&device, &send_queue, 1);
    virtio_go(&device);
    for (unsigned i = 0; i < buffers && i < receive_queue.size; i++)
        offer_buffer(&incoming[i]);
    queue_kick(&receive_queue);
}

// The frame's payload stands already in outgoing.frame + 14.
static void send_frame(const uint8_t to[6], uint32_t type, uint32_t payload) {
    uint8_t* frame = outgoing.frame;
    memcpy(frame, to, 6);
    memcpy(frame + 6, my_mac, 6);
    put16(frame + 12, type);
    uint32_t length = 14 + payload;
    for (; length < 60; length++)
        frame[length] = 0;
    memset(outgoing.header, 0, header_bytes);
    struct segment segments[2] = {{outgoing.header, header_bytes}, {frame, length}};
    if (queue_add(&send_queue, segments, 2, 0) < 0)
        fail("the send queue is full");
    queue_kick(&send_queue);
    uint16_t head;
    uint32_t written;
    queue_wait(&send_queue, &head, &written);
}

// The next frame, copied; 0 when none came before `end`.
static uint32_t receive_frame(uint8_t frame[frame_bytes], uint32_t end) {
    uint16_t head;
    uint32_t length;
    while (!queue_take(&receive_queue, &head, &length)) {
        if ((int32_t)(ticks - end) >= 0)
            return 0;
        wait_for_interrupt();
    }
    struct buffer* buffer = (struct buffer*)incoming_of_head[head];
    if (length < header_bytes || length > header_bytes + frame_bytes)
        fail("a received frame has %u bytes", length);
    length -= header_bytes;
    memcpy(frame, buffer->frame, length);
    offer_buffer(buffer);
    queue_kick(&receive_queue);
    // 14 bytes of Ethernet and 28 of ARP are the least of what is understood here.
    return length >= 42 ? length : 14;
}

// ---- ARP and IPv4

static void send_arp(uint32_t operation, const uint8_t mac[6], const uint8_t address[4]) {
    static const uint8_t start[6] = {0, 1, 8, 0, 6, 4};
    uint8_t* arp = outgoing.frame + 14;
    memcpy(arp, start, 6);
    put16(arp + 6, operation);
    memcpy(arp + 8, my_mac, 6);
    memcpy(arp + 14, my_address, 4);
    memcpy(arp + 18, mac, 6);
    memcpy(arp + 24, address, 4);
    send_frame(operation == 1 ? everyone : mac, type_arp, 28);
}

static uint8_t known_mac[6], known_address[4];
static bool known;

static void take_arp(const uint8_t* arp) {
    static const uint8_t zero[4];
    if (get16(arp + 6) == 2 && memcmp(arp + 14, known_address, 4) == 0) {
        memcpy(known_mac, arp + 8, 6);
        known = true;
    }
    if (get16(arp + 6) == 1 && memcmp(arp + 24, my_address, 4) == 0 &&
        memcmp(my_address, zero, 4) != 0) {
        uint8_t mac[6], address[4];
        memcpy(mac, arp + 8, 6);
        memcpy(address, arp + 14, 4);
        send_arp(2, mac, address);
    }
}

// The next IPv4 packet for us of a protocol with a good checksum; 0 when none came before
// `end`. Answers ARP meanwhile.
static uint32_t receive_ip(uint8_t packet[frame_bytes], unsigned protocol, uint32_t end) {
    static uint8_t frame[frame_bytes];
    uint32_t length;
    while ((length = receive_frame(frame, end)) != 0) {
        const uint8_t* ip = frame + 14;
        if (length == 14)
            continue;
        if (get16(frame + 12) == type_arp) {
            take_arp(ip);
            if (protocol == 0)
                return 1;
            continue;
        }
        uint32_t total = get16(ip + 2);
        if (get16(frame + 12) != type_ip || ip[0] != 0x45 || ip[9] != protocol ||
            total > length - 14 || total < 28 || (get16(ip + 6) & 0x3fff) != 0)
            continue;
        if (folded(sum(ip, 20, 0)) != 0)
            fail("an IPv4 header has a bad checksum");
        memcpy(packet, ip, total);
        return total;
    }
    return 0;
}

// The segment stands already in outgoing.frame + 34, its checksum (at `checksum`) is zero.
static void send_ip(const uint8_t mac[6], const uint8_t to[4], unsigned protocol, uint32_t checksum,
                    uint32_t length) {
    static uint32_t id;
    uint8_t* ip = outgoing.frame + 14;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put16(ip + 2, 20 + length);
    put16(ip + 4, ++id & 0xffff);
    ip[8] = 64;
    ip[9] = (uint8_t)protocol;
    memcpy(ip + 12, my_address, 4);
    memcpy(ip + 16, to, 4);
    put16(ip + 10, folded(sum(ip, 20, 0)));
    uint32_t value = transport_checksum(ip, ip + 20, length);
    put16(ip + 20 + checksum, value == 0 && protocol == protocol_udp ? 0xffff : value);
    send_frame(mac, type_ip, 20 + length);
}

static bool resolve(const uint8_t address[4]) {
    static uint8_t packet[frame_bytes];
    memcpy(known_address, address, 4);
    known = false;
    for (unsigned i = 0; i < tries && !known; i++) {
        send_arp(1, (const uint8_t[6]){0}, address);
        const uint32_t end = ticks + try_ticks;
        while (!known && receive_ip(packet, 0, end) != 0)
            ;
    }
    return known;
}

// ---- DHCP

enum { discover = 1, offer = 2, request = 3, acknowledged = 5, refused = 6 };
enum { bootp_bytes = 236, options_at = 240, dhcp_bytes = 300 };

static uint8_t* put_option(uint8_t* at, uint8_t code, const void* data, uint8_t length) {
    *at++ = code;
    *at++ = length;
    memcpy(at, data, length);
    return at + length;
}

static void send_dhcp(uint8_t type, uint32_t xid, const struct lease* lease) {
    uint8_t* udp = outgoing.frame + 34;
    uint8_t* bootp = udp + 8;
    memset(udp, 0, 8 + dhcp_bytes);
    put16(udp, 68);
    put16(udp + 2, 67);
    put16(udp + 4, 8 + dhcp_bytes);
    bootp[0] = 1; // request
    bootp[1] = 1; // Ethernet
    bootp[2] = 6;
    put32(bootp + 4, xid);
    put16(bootp + 10, 0x8000); // answer by broadcast
    memcpy(bootp + 28, my_mac, 6);
    put32(bootp + bootp_bytes, 0x63825363);
    uint8_t* at = put_option(bootp + options_at, 53, &type, 1);
    if (type == request) {
        at = put_option(at, 50, lease->address, 4);
        at = put_option(at, 54, lease->server, 4);
    }
    static const uint8_t wanted[] = {1, 3, 6, 12, 15, 66, 67};
    at = put_option(at, 55, wanted, sizeof wanted);
    *at = 255;
    send_ip(everyone, broadcast, protocol_udp, 6, 8 + dhcp_bytes);
}

static void take_text(char* into, uint32_t room, const uint8_t* from, uint32_t length) {
    uint32_t count = 0;
    while (count < length && count < room - 1 && from[count] > ' ' && from[count] < 0x7f) {
        into[count] = (char)from[count];
        count++;
    }
    into[count] = '\0';
}

// The message type of an answer to us, its contents in *lease; 0 = not for us.
static uint8_t take_dhcp(const uint8_t* packet, uint32_t total, uint32_t xid, struct lease* lease) {
    const uint8_t* udp = packet + 20;
    const uint8_t* bootp = udp + 8;
    if (total < 28 + options_at || get16(udp) != 67 || get16(udp + 2) != 68 || bootp[0] != 2 ||
        get32(bootp + 4) != xid || memcmp(bootp + 28, my_mac, 6) != 0 ||
        get32(bootp + bootp_bytes) != 0x63825363)
        return 0;
    if (get16(udp + 6) != 0 && transport_checksum(packet, udp, total - 20) != 0)
        fail("a DHCP answer has a bad checksum");
    memset(lease, 0, sizeof *lease);
    memcpy(lease->address, bootp + 16, 4);
    memcpy(lease->next_server, bootp + 20, 4);
    take_text(lease->boot_file, sizeof lease->boot_file, bootp + 108, 128);
    uint8_t type = 0;
    const uint8_t* end = packet + total;
    for (const uint8_t* at = bootp + options_at; at < end && *at != 255;) {
        if (*at == 0) {
            at++;
            continue;
        }
        if (end - at < 2 || end - at < 2 + at[1])
            fail("a DHCP option runs over the end");
        const uint8_t code = at[0], length = at[1];
        const uint8_t* data = at + 2;
        at = data + length;
        if (code == 12)
            take_text(lease->hostname, sizeof lease->hostname, data, length);
        if (code == 53 && length == 1)
            type = data[0];
        if (length < 4)
            continue;
        if (code == 1)
            memcpy(lease->mask, data, 4);
        if (code == 54)
            memcpy(lease->server, data, 4);
        if (code == 3) {
            memcpy(lease->router, data, 4);
            lease->has_router = true;
        }
        if (code == 6) {
            memcpy(lease->dns, data, 4);
            lease->has_dns = true;
        }
    }
    return type;
}

// Waits for an answer of one of two types.
static uint8_t await_dhcp(uint32_t xid, uint8_t one, uint8_t other, struct lease* lease) {
    static uint8_t packet[frame_bytes];
    struct lease candidate;
    const uint32_t end = ticks + try_ticks;
    uint32_t total;
    while ((total = receive_ip(packet, protocol_udp, end)) != 0) {
        uint8_t type = take_dhcp(packet, total, xid, &candidate);
        if (type != 0 && (type == one || type == other)) {
            *lease = candidate;
            return type;
        }
    }
    return 0;
}

bool dhcp(struct lease* lease) {
    for (unsigned i = 0; i < tries; i++) {
        const uint32_t xid = 0x766d0000 + (i << 8) + my_mac[5];
        struct lease offered;
        send_dhcp(discover, xid, NULL);
        if (await_dhcp(xid, offer, offer, &offered) == 0)
            continue;
        send_dhcp(request, xid, &offered);
        if (await_dhcp(xid, acknowledged, refused, lease) == acknowledged) {
            memcpy(my_address, lease->address, 4);
            return true;
        }
    }
    return false;
}

// ---- TCP

static struct {
    uint8_t address[4];
    uint32_t port;            // ours
    uint32_t next, peer_next; // what we send next, what we expect next
} tcp;

static void send_tcp(unsigned flags, uint32_t sequence, const void* data, uint32_t length) {
    uint8_t* segment = outgoing.frame + 34;
    memset(segment, 0, 20);
    put16(segment, tcp.port);
    put16(segment + 2, 80);
    put32(segment + 4, sequence);
    put32(segment + 8, flags & ack ? tcp.peer_next : 0);
    segment[12] = 5 << 4;
    segment[13] = (uint8_t)flags;
    put16(segment + 14, window_bytes);
    memcpy(segment + 20, data, length);
    send_ip(known_mac, tcp.address, protocol_tcp, 16, 20 + length);
}

struct tcp_segment {
    unsigned flags;
    uint32_t sequence, acknowledged, length;
    const uint8_t* data;
};

static bool receive_tcp(struct tcp_segment* segment, uint32_t end) {
    static uint8_t packet[frame_bytes];
    uint32_t total;
    while ((total = receive_ip(packet, protocol_tcp, end)) != 0) {
        const uint8_t* at = packet + 20;
        const uint32_t header = (uint32_t)(at[12] >> 4) * 4;
        if (total < 40 || header < 20 || header > total - 20 || get16(at) != 80 ||
            get16(at + 2) != tcp.port || memcmp(packet + 12, tcp.address, 4) != 0)
            continue;
        if (transport_checksum(packet, at, total - 20) != 0)
            fail("a TCP segment has a bad checksum");
        *segment = (struct tcp_segment){at[13], get32(at + 4), get32(at + 8), total - 20 - header,
                                        at + header};
        return true;
    }
    return false;
}

static bool tcp_connect(const uint8_t server[4]) {
    memcpy(tcp.address, server, 4);
    // Another each time: a server may still know the last connection of a guest that was reset, or
    // of another guest that had this address.
    tcp.port = first_port + (uint32_t)__builtin_ia32_rdtsc() % ports;
    tcp.next = 1000 + ticks * 64000;
    for (unsigned i = 0; i < tries; i++) {
        tcp.peer_next = 0;
        send_tcp(syn, tcp.next, NULL, 0);
        const uint32_t end = ticks + try_ticks;
        struct tcp_segment segment;
        while (receive_tcp(&segment, end)) {
            if (segment.acknowledged != tcp.next + 1)
                continue;
            if (segment.flags & rst)
                return false;
            if ((segment.flags & (syn | ack)) == (syn | ack)) {
                tcp.next++;
                tcp.peer_next = segment.sequence + 1;
                send_tcp(ack, tcp.next, NULL, 0);
                return true;
            }
        }
    }
    return false;
}

int http_exchange(const uint8_t server[4], const char* request_text, uint8_t* answer,
                  uint32_t room) {
    const uint32_t request_bytes = (uint32_t)strlen(request_text);
    if (request_bytes > max_segment)
        fail("the request does not fit a segment");
    if (!resolve(server) || !tcp_connect(server))
        return -1;
    uint32_t taken = 0;
    bool heard = false, closed = false;
    unsigned silent = 0;
    send_tcp(ack | psh, tcp.next, request_text, request_bytes);
    while (!closed && silent < tries) {
        struct tcp_segment segment;
        if (!receive_tcp(&segment, ticks + try_ticks)) {
            silent++;
            if (!heard)
                send_tcp(ack | psh, tcp.next, request_text, request_bytes);
            continue;
        }
        silent = 0;
        if (segment.flags & rst)
            return -1;
        heard = heard || segment.acknowledged == tcp.next + request_bytes;
        // Anything else than the next byte is asked for again by the acknowledgement.
        if (segment.sequence == tcp.peer_next) {
            if (segment.length > room - taken)
                return -1;
            memcpy(answer + taken, segment.data, segment.length);
            taken += segment.length;
            tcp.peer_next += segment.length;
            if (segment.flags & fin) {
                tcp.peer_next++;
                closed = true;
            }
        } else if (segment.length == 0 && !(segment.flags & (fin | syn))) {
            continue;
        }
        if (segment.length > 0 || segment.flags & (fin | syn))
            send_tcp(ack, tcp.next + (heard ? request_bytes : 0), NULL, 0);
    }
    if (!closed)
        return -1;
    tcp.next += request_bytes;
    send_tcp(fin | ack, tcp.next, NULL, 0);
    return (int)taken;
}
