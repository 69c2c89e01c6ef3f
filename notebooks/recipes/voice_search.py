"""Search a corpus by voice: which of these recordings sound like that one?

    python voice_search.py somebody.wav gravacoes/*.wav

Means of a layer of the encoder are compared by their cosine. Mind what else is alike:
the same room, microphone or sentence also makes two recordings neighbours.
With no files named, a voice of the course's test split is looked for in all of it.
"""

import sys

import ptlab

LAYER = 2  # voices are told apart best low in the network: see notebook 04

corpus = ptlab.load_corpus("test").frame.groupby("speaker").head(4).file.tolist()
wanted, *recordings = sys.argv[1:] if len(sys.argv) > 2 else corpus

vectors = ptlab.embed([wanted, *recordings], layers=[LAYER], pool="mean").matrix(LAYER)
found = ptlab.nearest_clips(vectors, query=0, count=5)

print("Most like", wanted)
for number, cosine in zip(found.number, found.cosine, strict=True):
    print(f"{cosine:6.2f}  {recordings[number - 1]}")
