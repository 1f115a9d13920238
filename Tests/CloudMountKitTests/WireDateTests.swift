import CloudMountKit
import CloudMountVFS
import Testing

@Suite("Points in time as stores write them")
struct WireDateTests {
    @Test(
        "ISO 8601",
        arguments: [
            ("1970-01-01T00:00:00Z", Timestamp(seconds: 0)),
            ("2026-11-05T10:10:10.123Z", Timestamp(seconds: 1_793_873_410, nanoseconds: 123_000_000)),
            ("2026-11-05T10:10:10.123456789Z", Timestamp(seconds: 1_793_873_410, nanoseconds: 123_456_789)),
            ("2026-11-05T12:10:10+02:00", Timestamp(seconds: 1_793_873_410)),
            ("2026-11-05T05:40:10-04:30", Timestamp(seconds: 1_793_873_410)),
            ("2024-02-29T23:59:59Z", Timestamp(seconds: 1_709_251_199)),
            ("1969-12-31T23:59:59Z", Timestamp(seconds: -1)),
            ("2026-11-05T10:10:10", Timestamp(seconds: 1_793_873_410)),
            ("", nil), ("2026-11-05", nil), ("2026-13-05T10:10:10Z", nil), ("2026-11-05T25:10:10Z", nil),
            ("2026-11-05T10:10:10Zx", nil), ("yesterday, around noon", nil), ("2026-11-05T10:10:10+0200", nil),
        ] as [(String, Timestamp?)])
    func iso8601(text: String, expected: Timestamp?) { #expect(WireDate.iso8601(text) == expected) }

    @Test(
        "HTTP",
        arguments: [
            ("Wed, 21 Oct 2015 07:28:00 GMT", Timestamp(seconds: 1_445_412_480)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Timestamp(seconds: 0)), ("", nil), ("Wed, 21 Okt 2015 07:28:00 GMT", nil),
            ("Wednesday, 21-Oct-15 07:28:00 GMT", nil),
        ] as [(String, Timestamp?)])
    func http(text: String, expected: Timestamp?) { #expect(WireDate.http(text) == expected) }

    @Test(
        "HTTP, written",
        arguments: [
            (1_445_412_480, "Wed, 21 Oct 2015 07:28:00 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ])
    func httpText(seconds: Int, expected: String) { #expect(WireDate.httpText(seconds) == expected) }

    @Test(
        "The form of signatures",
        arguments: [
            (0, "19700101T000000Z"), (1_369_353_600, "20130524T000000Z"), (1_709_251_199, "20240229T235959Z"),
            (951_868_800, "20000301T000000Z"), (4_102_444_799, "20991231T235959Z"), (-1, "19691231T235959Z"),
        ])
    func basic(seconds: Int, expected: String) { #expect(WireDate.basic(seconds) == expected) }

    @Test("What is written is read back, on any day of four centuries")
    func roundTrip() {
        for day in stride(from: -20_000, to: 130_000, by: 7) {
            let seconds = day * 86_400 + abs(day) % 86_400
            let text = WireDate.basic(seconds)
            var iso = ""
            for (index, character) in text.enumerated() {
                if index == 4 || index == 6 { iso += "-" }
                if index == 11 || index == 13 { iso += ":" }
                iso.append(character)
            }
            #expect(WireDate.iso8601(iso) == Timestamp(seconds: seconds))
            #expect(WireDate.http(WireDate.httpText(seconds)) == Timestamp(seconds: seconds))
        }
    }
}
