import CloudMountPlatform
import Testing

@testable import CloudMountCrypto

@Suite("Keys of elliptic curves")
struct ECKeyTests {
    /// Made by `openssl ecparam -name prime256v1 -genkey -noout -outform DER`.
    static let p256 =
        "MHcCAQEEIA6jg8K7PwGkZxhPN7G0JgkE14soR4lk4mauP0JRmq8JoAoGCCqGSM49AwEHoUQDQgAEnrKT+RTMUCRhWoQEgGctt0Wz8pvUT91ksHTJC6Ni+UbMuIp8/TLmohy6fAjzoshJq8B8jLINmB2Hr1FOV3Cgag=="
    /// The same key by `openssl pkcs8 -topk8 -nocrypt`.
    static let pkcs8 =
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDqODwrs/AaRnGE83sbQmCQTXiyhHiWTiZq4/QlGarwmhRANCAASespP5FMxQJGFahASAZy23RbPym9RP3WSwdMkLo2L5Rsy4inz9MuaiHLp8CPOiyEmrwHyMsg2YHYevUU5XcKBq"
    /// Of another curve of that length: secp256k1.
    static let other =
        "MHQCAQEEIIGCwFG8QgMc5VzXBV+n5RFC7/9LgYUW1pq71zkdbymDoAcGBSuBBAAKoUQDQgAEWGsTUkaUkw4pY/83lREmCN87HwgPkOO5/CsBDhnfmk7Ps6ANIUqZraSdMH/HjCGYQ1byeDOU31i9c7bhmBgwHg=="

    @Test("A key of P-256, in both of its forms, with its public point")
    func keys() throws {
        for text in [Self.p256, Self.pkcs8] {
            let key = try #require(ECKey(der: Base64.decode(text) ?? []))
            #expect(
                Hex.string(key.publicX + key.publicY)
                    == "9eb293f914cc5024615a840480672db745b3f29bd44fdd64b074c90ba362f946ccb88a7cfd32e6a21cba7c08f3a2c849abc07c8cb20d981d87af514e5770a06a"
            )
            let one = try #require(key.signature(of: Array("text".utf8)))
            #expect(one.count == 64)
        }
    }

    @Test("What is no such key is refused")
    func others() {
        #expect(ECKey(der: Base64.decode(Self.other) ?? []) == nil)
        #expect(ECKey(der: []) == nil)
        let der = Base64.decode(Self.p256) ?? []
        for count in 0..<der.count - 1 { _ = ECKey(der: Array(der[..<count])) }
        #expect(ECKey(der: Array(der[..<40])) == nil)
        #expect(ECKey(der: [UInt8](repeating: 0x30, count: 5000)) == nil)
    }
}
