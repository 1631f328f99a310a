"""Sentences on a dozen matters, so that each has neighbours."""

from __future__ import annotations

SENTENCES = """
The baker kneads the dough before sunrise.
Fresh rolls came out of the oven at six.
Too much salt ruined the rye bread.
She lets the sourdough rest over night.
A pinch of sugar wakes the yeast.
The crust cracked while the loaf cooled.
He sieved the flour twice for the cake.
Their shop sells out of croissants by nine.
The goalkeeper dived to the wrong side.
Extra time began after a scoreless half.
The referee showed him a second yellow card.
Fans sang although their team was losing.
She scored from the corner in the last minute.
The coach moved her to the left wing.
An injury kept the captain on the bench.
They were relegated after twelve seasons.
The compiler could not inline the function.
A race between two threads lost the update.
The test fails only on the build server.
He profiled the loop and found a cache miss.
Deleting the branch broke the release script.
The parser rejects a trailing comma.
Her patch halves the memory of the index.
The service timed out while the queue grew.
Glaciers in the valley retreat every summer.
The ridge is steep and covered with scree.
We reached the hut before the thunderstorm.
Fog hid the path below the summit.
Marmots whistled when we crossed the meadow.
The rope froze stiff during the night.
An avalanche closed the pass in March.
From the top one sees three lakes.
The violins enter after the oboe.
She tunes her cello before every rehearsal.
The conductor asked for a softer ending.
His new quartet is built on a folk song.
A string broke in the middle of the solo.
The choir sang without accompaniment.
Critics praised the pianist's left hand.
The old organ has two thousand pipes.
The nurse changed the bandage twice a day.
A fever of forty degrees worried the doctor.
The surgeon repaired the torn ligament.
Pollen makes his asthma worse in May.
The vaccine has to be kept cold.
She lost her sense of smell for a week.
An X-ray showed a fracture of the wrist.
The dentist filled a cavity.
Tomatoes want sun and little wind.
Slugs ate the lettuce over night.
He prunes the apple trees in February.
Compost keeps the beds moist.
The roses are late after the frost.
She sowed carrots between the onions.
Bees avoid the new hedge.
A hose drips slowly at the foot of the vine.
The night train was two hours late.
Our bus takes the mountain road.
She missed the connection in Basel.
The ferry carries forty cars.
A strike closed the airport on Friday.
He rode his bicycle to the station.
The tram stops in front of the museum.
Road works lengthen the way to the coast.
The senate rejected the budget.
Turnout was low in the northern districts.
The mayor resigned over the contract.
A court struck down the new tax.
Voters will decide about the bridge in June.
The minister apologised in parliament.
Both parties claim to have won.
The treaty was signed after ten years.
Bonds fell when the bank raised its rate.
The startup ran out of money in autumn.
Her pension is paid every quarter.
Sales doubled after the merger.
The auditor found an error in the books.
They borrowed against the house.
Coffee became dearer on the world market.
The shop gives a discount for cash.
Whales pass the cape in early spring.
The owl hunts along the edge of the wood.
A fox crossed the road in front of us.
Swallows nest under the eaves.
The puppy chewed the leg of the table.
Salmon climb the river to spawn.
Ants carried the crumbs away.
The mare gave birth to a healthy foal.
The novel begins with a funeral.
Her poems were found after her death.
He reads the newspaper from the back.
The library lends tools as well as books.
An editor cut a hundred pages.
The translation keeps the rhymes.
Children learn the fable by heart.
His diary describes the flood.
""".strip().splitlines()
