"""The differences from Envoy that are meant, each with its reason. A name is "CASE: PATH" as the suite prints it; `*` stands
for anything. What is not named here fails the suite, and so does a name that is met by no difference any more.
"""

DIFFERENCES = {
}
