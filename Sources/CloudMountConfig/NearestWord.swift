/// Finds the word that was probably meant.
enum NearestWord {
    /// Nobody means a longer one, and the work grows with the product of two lengths.
    private static let longest = 64
    /// Of more words than that, these are looked at.
    private static let mostWords = 1000

    /// The nearest of `words`, when it is near enough to be worth saying: a third of its letters wrong at most.
    static func to(_ word: String, among words: [String]) -> String? {
        guard isShort(word) else { return nil }
        let word = Array(word.lowercased())
        let near = words.prefix(mostWords).filter(isShort).map {
            (word: $0, distance: distance(word, Array($0.lowercased())))
        }
        guard let best = near.min(by: { $0.distance < $1.distance }) else { return nil }
        return best.distance <= max(1, best.word.count / 3) ? best.word : nil
    }

    private static func isShort(_ word: String) -> Bool { word.unicodeScalars.prefix(longest + 1).count <= longest }

    /// `; did you mean 'x'?`, or nothing.
    static func hint(_ word: String, among words: [String]) -> String {
        to(word, among: words).map { "; did you mean '\($0)'?" } ?? ""
    }

    /// Damerau-Levenshtein, with neighbours exchanged counted as one.
    static func distance(_ a: [Character], _ b: [Character]) -> Int {
        guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
        var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
        for i in 0...a.count { rows[i][0] = i }
        for j in 0...b.count { rows[0][j] = j }
        for i in 1...a.count {
            for j in 1...b.count {
                let change = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
                rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, change)
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
                }
            }
        }
        return rows[a.count][b.count]
    }
}
