"""After the cut-over: samples answers, has them judged, and says when they got too bad."""
